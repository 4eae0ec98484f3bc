//! Time this thread had a processor for: what else runs on the machine is not in it, beyond what
//! it does to the caches. A shard over a sink never waits, so this is all the time it takes.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// How much of it `work` took.
pub fn cpu_time(work: impl FnOnce()) -> Duration {
    let start = now();
    work();
    now() - start
}

fn now() -> Duration {
    // Not by rustix, which does not run under valgrind.
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.expect("every Linux has this clock").into()
}
