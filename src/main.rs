//! Arguments, allocator, exit code; nothing else.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // The allocator asks for pages of 2 MiB. They double the memory (47 to 25 MB under load, 33 to 21 MB idle) and
    // save no CPU time that could be measured.
    // SAFETY: two numbers are all that this option takes; it concerns this process only.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    hydrant::cli::main()
}
