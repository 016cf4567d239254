//! The policy files of a service, under `runsvdir` and under `runsvinit`. Stock runit has none of them.

mod ours {
    mod cost;
    mod ready;
    mod restart;
}
