//! The thread of a shard: a glommio executor, pinned to a core.
//!
//! Owns: how executors are set up. Never: knows what they run. Several may be pinned to one core (`--shards` more than
//! cores): they then share it as threads do.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::time::Duration;

use glommio::{ExecutorJoinHandle, GlommioError, LocalExecutorBuilder, Placement, PoolPlacement, Task};

use super::check::StartError;

/// Bytes of registered memory per executor. glommio takes 10 MiB by default, for direct file I/O; the only file a
/// shard reads through it is its doorbell, 8 bytes at a time.
const IO_BYTES: usize = 64 << 10;

/// Entries of each of glommio's three rings: a shard waits for one thing at a time there.
const RING_DEPTH: usize = 32;

/// After how long glommio asks a task to make room for others: never, in effect (a year), as a core has one task.
///
/// By default it asks after 100 ms, with a timer, and glommio 0.9 may fall asleep for it beside a task that can run: if
/// the timer fires between the reactor's poll and the queues' turn (`LocalExecutor::run`, `run_task_queues`), no queue
/// gets its turn, which passes for "none has work". A thread that is kept off its core for so long, on a crowded machine or by
/// SIGSTOP, was not seen again: `with_signals.py` plays it.
const PREEMPT_AFTER: Duration = Duration::from_secs(365 * 24 * 3600);

thread_local! {
    /// How many tasks this thread's executor runs beside its body.
    static COMPANY: Cell<usize> = const { Cell::new(0) };
}

/// Runs a task on this thread's executor, beside the body of the core. To be called inside it. There is no other way to
/// start one: a core that is alone sleeps in its ring, and nothing else of its executor would get a turn.
pub fn beside<T: 'static>(task: impl Future<Output = T> + 'static) -> Task<T> {
    struct Guest;
    impl Drop for Guest {
        fn drop(&mut self) {
            COMPANY.set(COMPANY.get() - 1);
        }
    }
    COMPANY.set(COMPANY.get() + 1);
    let guest = Guest;
    glommio::spawn_local(async move {
        let _guest = guest;
        task.await
    })
}

/// Says whether this thread's executor runs anything beside the body of the core.
#[must_use]
pub fn in_company() -> bool {
    COMPANY.get() > 0
}

/// A shard's running thread.
#[derive(Debug)]
pub struct ShardThread<T: Send + 'static> {
    name: String,
    handle: ExecutorJoinHandle<T>,
}

impl<T: Send + 'static> ShardThread<T> {
    /// Waits for the thread to end, and returns what its body returned.
    ///
    /// # Errors
    /// If the executor could not start on its thread (glommio's rings, its memory), or its thread panicked.
    pub fn join(self) -> Result<T, StartError> {
        self.handle.join().map_err(|error| cannot_start(&self.name, &error))
    }
}

/// Starts a thread named `name` that runs `body` to its end; pinned to CPU number `core` if one is given.
///
/// # Errors
/// If the thread cannot be made, or the core does not exist or is not ours. What fails on the thread itself is told
/// by [`ShardThread::join`].
pub fn spawn_shard<G, F, T>(name: &str, core: Option<usize>, body: G) -> Result<ShardThread<T>, StartError>
where
    G: FnOnce() -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let handle = LocalExecutorBuilder::new(core.map_or(Placement::Unbound, Placement::Fixed))
        .name(name)
        .io_memory(IO_BYTES)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT_AFTER)
        // No thread for blocking work, of which a core has none: glommio 0.9 panics where it cannot be started.
        .blocking_thread_pool_placement(PoolPlacement::Custom(Vec::new()))
        .spawn(body)
        .map_err(|error| cannot_start(name, &error))?;
    Ok(ShardThread { name: name.to_owned(), handle })
}

fn cannot_start(name: &str, error: &GlommioError<()>) -> StartError {
    let source = match error {
        GlommioError::IoError(source) => source.raw_os_error(),
        _ => None,
    };
    let cure = match source {
        Some(libc::ENOMEM) => "raise the limit of locked memory (ulimit -l, LimitMEMLOCK=) to 8 MiB or more",
        Some(libc::EMFILE) => "raise the limit of open files (ulimit -n, LimitNOFILE=)",
        Some(libc::EAGAIN) => "raise the limit of threads (ulimit -u, TasksMax=, the control group's pids.max)",
        _ => "run `corecast check`; pin only to CPUs this process may use (taskset -p)",
    };
    StartError { cause: format!("the thread of {name} cannot run: {error}"), cure: cure.to_owned() }
}

impl From<StartError> for io::Error {
    fn from(error: StartError) -> io::Error {
        io::Error::other(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two executors pinned to one core both run, there, and return what their bodies return.
    #[test]
    fn several_on_one_core() {
        let allowed = (0..1024).find(|core| {
            let start = spawn_shard("probe", Some(*core), || async { 0 });
            start.and_then(ShardThread::join).is_ok()
        });
        let core = allowed.unwrap();
        let threads: Vec<_> = (0..2)
            .map(|number| spawn_shard(&format!("shard-{number}"), Some(core), move || async move { number }).unwrap())
            .collect();
        let returned: Vec<i32> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(returned, [0, 1]);
    }

    /// A thread that was kept from running for long is not asked to make room: glommio would fall asleep over it.
    #[test]
    fn never_preempted() {
        let asked = spawn_shard("late", None, || async {
            // A rest, after which the reactor has set its timer; then a stall.
            glommio::timer::sleep(Duration::from_millis(1)).await;
            std::thread::sleep(Duration::from_millis(250));
            glommio::executor().need_preempt()
        });
        assert!(!asked.unwrap().join().unwrap());
    }

    /// A core is one thread, and no more: where glommio could not start another, it panicked behind "listening on".
    #[test]
    fn a_core_is_one_thread() {
        let named = spawn_shard("alone", None, move || async move {
            let named = |entry: std::io::Result<std::fs::DirEntry>| {
                std::fs::read_to_string(entry.unwrap().path().join("comm")).is_ok_and(|name| name.starts_with("alone"))
            };
            std::fs::read_dir("/proc/self/task").unwrap().filter_map(|entry| named(entry).then_some(())).count()
        });
        assert_eq!(named.unwrap().join().unwrap(), 1);
    }

    /// A core that does not exist is refused with cause and cure.
    #[test]
    fn no_such_core() {
        let refused = spawn_shard("shard-0", Some(100_000), || async {}).and_then(ShardThread::join);
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("shard-0") && text.contains("taskset"), "{text}");
    }
}
