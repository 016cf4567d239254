//! The policy files of a service, under `runsvdir` and under `runsvinit`. Stock runit has none of them.

mod ours {
    mod cgroup;
    mod cost;
    mod descriptors;
    mod kill_group;
    mod needs;
    mod on_failure;
    mod programs;
    mod ready;
    mod restart;
    mod template;
}
