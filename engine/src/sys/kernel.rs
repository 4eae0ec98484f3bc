//! What the running kernel says of itself: its release and this process's limits.

use std::ffi::CStr;
use std::mem::MaybeUninit;

/// The kernel's release string, such as `6.1.0-18-amd64`; `unknown` if it will not say.
pub(crate) fn release() -> String {
    let mut names = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: `names` is a valid, writable `utsname`.
    if unsafe { libc::uname(names.as_mut_ptr()) } != 0 {
        return "unknown".to_owned();
    }
    // SAFETY: all-zero is a valid `utsname` (arrays of `c_char`), and uname(2) filled it in.
    let names = unsafe { names.assume_init() };
    // SAFETY: uname(2) ends each field with a NUL inside the array, which outlives the borrow.
    let release = unsafe { CStr::from_ptr(names.release.as_ptr()) };
    release.to_string_lossy().into_owned()
}

/// Bytes of memory this process may lock (`RLIMIT_MEMLOCK`); `None` when there is no limit.
pub(crate) fn memlock_limit_bytes() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid, writable `rlimit`.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
    (result == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Whether this kernel is at least `major.minor`; `None` when its release cannot be read as one.
pub(crate) fn is_at_least(release: &str, major: u32, minor: u32) -> Option<bool> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let found_major: u32 = numbers.next()?.parse().ok()?;
    let found_minor: u32 = numbers.next()?.parse().ok()?;
    Some((found_major, found_minor) >= (major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(is_at_least("6.1.0-18-amd64", 6, 0), Some(true));
        assert_eq!(is_at_least("5.19.17", 6, 0), Some(false));
        assert_eq!(is_at_least("10.2-rc1", 9, 30), Some(true));
        assert_eq!(is_at_least("6", 6, 0), None);
        assert_eq!(is_at_least("unknown", 6, 0), None);
    }

    #[test]
    fn the_running_kernel_states_a_readable_release() {
        assert!(is_at_least(&release(), 2, 6).is_some());
    }
}
