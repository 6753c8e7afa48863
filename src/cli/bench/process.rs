//! Processes of a benchmark: on which core they run, what they have used, how they are asked to stop.
//!
//! Linux only, as Hydrant is. Times and memory are the kernel's own: `/proc/PID/stat` (in clock ticks) and
//! `/proc/PID/status`.

use std::io::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, ErrorKind};

/// Nanoseconds of the monotonic clock.
pub(super) fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to the address, which is valid for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Lets this thread, and what it starts from now on, run on one core only.
///
/// # Errors
/// The process may not use that core.
pub(super) fn pin(core: usize) -> Result<(), Error> {
    let failed =
        |error: std::io::Error| Error::new(ErrorKind::Configuration, "pin", "the core cannot be used").with("core", core).because(error);
    if core >= libc::CPU_SETSIZE as usize {
        return Err(failed(std::io::ErrorKind::InvalidInput.into()));
    }
    // SAFETY: a cpu_set_t is plain bits, all zero is the empty set, and `core` is below its size.
    let status = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if status == 0 { Ok(()) } else { Err(failed(std::io::Error::last_os_error())) }
}

/// Asks a child to stop (SIGTERM).
pub(super) fn terminate(child: &std::process::Child) {
    // SAFETY: a system call without pointers. The child has not been waited for, so its number is not reused.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
}

/// CPU time of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cpu {
    /// In user mode.
    pub(super) user: Duration,
    /// In the kernel.
    pub(super) system: Duration,
}

impl Cpu {
    pub(super) fn total(self) -> Duration {
        self.user + self.system
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self { user: self.user.saturating_sub(before.user), system: self.system.saturating_sub(before.system) }
    }
}

/// CPU time that a running process has used, all threads together.
///
/// # Errors
/// There is no such process.
pub(super) fn cpu(pid: u32) -> Result<Cpu, Error> {
    let failed = || Error::new(ErrorKind::Unexpected, "measure", "the process is gone").with("pid", pid);
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|error| failed().because(error))?;
    // The second field is the name in brackets and may hold blanks; user and system time are the 14th and 15th.
    let behind = text.rsplit_once(')').ok_or_else(failed)?.1;
    let ticks: Vec<u64> = behind.split_whitespace().skip(11).take(2).filter_map(|text| text.parse().ok()).collect();
    let [user, system] = ticks[..] else { return Err(failed()) };
    // SAFETY: no pointers are involved.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as f64;
    let seconds = |ticks: u64| Duration::from_secs_f64(ticks as f64 / per_second);
    Ok(Cpu { user: seconds(user), system: seconds(system) })
}

/// Most memory that a running process has held, in bytes.
pub(super) fn peak_rss_bytes(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Writes one JSON line to stdout, for the process that started this one.
///
/// # Errors
/// That process is gone.
pub(super) fn answer<T: Serialize>(value: &T) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::new(ErrorKind::Connection, "answer", "the benchmark is gone").because(error);
    let mut line = serde_json::to_vec(value).map_err(|error| failed(error.into()))?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let pid = std::process::id();
        let before = cpu(pid).unwrap();
        let began = std::time::Instant::now();
        let mut sum = 0u64;
        while began.elapsed() < Duration::from_millis(200) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(cpu(pid).unwrap().since(before).total() >= Duration::from_millis(20));
        assert!(peak_rss_bytes(pid).unwrap() > 1_000_000);
        assert!(cpu(u32::MAX).is_err());
    }

    #[test]
    fn a_thread_is_pinned_to_an_existing_core_only() {
        std::thread::spawn(|| {
            assert!(pin(1 << 40).is_err());
            assert!(pin(1_000).is_err());
            let allowed = std::thread::available_parallelism().unwrap().get();
            if (0..64).any(|core| pin(core).is_ok()) {
                assert_eq!(std::thread::available_parallelism().unwrap().get(), 1, "{allowed} before");
            }
        })
        .join()
        .unwrap();
    }
}
