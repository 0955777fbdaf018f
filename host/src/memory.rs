//! Gives memory back to the system that nothing uses any more.
//!
//! The allocator keeps what was freed for a moment, and looks whether that has passed only when it is asked for something
//! else: a gateway that becomes quiet after a peak would keep all of the peak's memory. So every worker has it looked at
//! now and then, which costs microseconds where there is nothing to do.
#![allow(unsafe_code, reason = "a function of the allocator's that its crate has no safe name for")]

/// What this thread has freed and the allocator has kept for long enough goes back.
pub fn give_back() {
    // SAFETY: it takes no pointer and touches nothing but the allocator's own state, of this thread and of what all share
    // under the allocator's own locks; it may be called at any time, also where another allocator is in use.
    unsafe { libmimalloc_sys::mi_collect(false) };
}
