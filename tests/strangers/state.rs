//! `supervise` directories and state elsewhere: who may lead whom astray.
