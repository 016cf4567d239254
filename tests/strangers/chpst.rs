//! `chpst`: whoever is dropped to stays dropped.
