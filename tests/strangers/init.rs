//! `runsvinit`: what it reads, runs and writes for root belongs to root.
