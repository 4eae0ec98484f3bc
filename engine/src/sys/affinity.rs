//! Binds a thread to one core, so that its caches, its socket's memory and its io_uring stay there.

/// The cores this process may run on, as the kernel numbers them.
pub(crate) fn cores() -> Vec<usize> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    ids.into_iter().map(|core| core.id).collect()
}

/// Pins the calling thread to `core`; `false` when the kernel refuses (no such core, or outside
/// the process's cpuset).
pub(crate) fn pin_current_thread(core: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: core })
}
