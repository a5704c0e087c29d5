//! The one race between calls and reclamation: a thread publishes its frame and then looks whether the
//! callee lives; whoever frees a domain marks it dead and then looks for frames. One of the two sees the
//! other if no processor lets a store wait behind a later load. Calls do not pay for that: whoever frees a
//! domain has every thread pass a fence instead.
//!
//! loom knows no fence on behalf of others. In its model the caller passes the fence itself, at the one place
//! where a fence of the other's can take effect: between its store and its load.

#[cfg(not(loom))]
use core::sync::atomic::{Ordering, compiler_fence, fence};
#[cfg(loom)]
use loom::sync::atomic::{Ordering, fence};

/// Between publishing a frame and looking whether the callee lives.
#[inline(always)]
pub(crate) fn frame_is_published() {
    // The half that the compiler needs; `all_frames_are_published` brings the other one.
    #[cfg(not(loom))]
    compiler_fence(Ordering::SeqCst);
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// Between marking a domain dead and looking for frames of it. `fence_all_threads` is the host's.
pub(crate) fn all_frames_are_published(fence_all_threads: impl FnOnce()) {
    fence(Ordering::SeqCst);
    fence_all_threads();
}

#[cfg(all(test, loom))]
mod loom_tests {
    use alloc::vec::Vec;

    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU32, Ordering};
    use loom::thread;

    use super::{all_frames_are_published, frame_is_published};

    /// A domain's number while it lives, how many frames a thread has of it, and its memory.
    struct Model {
        live: AtomicU32,
        frames: [AtomicU32; 2],
        memory: UnsafeCell<u32>,
    }

    // SAFETY: the memory is what the protocol guards; loom says if two are at it.
    unsafe impl Sync for Model {}
    // SAFETY: as above.
    unsafe impl Send for Model {}

    /// A call as a gate makes it, in the same order; whether it was made.
    fn call(model: &Model, thread: usize) -> bool {
        model.frames[thread].store(1, Ordering::Release);
        frame_is_published();
        let lives = model.live.load(Ordering::Acquire) != 0;
        if lives {
            model.memory.with(|memory| {
                // SAFETY: nobody frees it while the frame is there; loom tells if that is not so.
                assert_eq!(unsafe { *memory }, 7);
            });
        }
        model.frames[thread].store(0, Ordering::Release);
        lives
    }

    /// Ends the domain and frees its memory, if no frame is there; whether it did.
    fn reclaim(model: &Model) -> bool {
        model.live.store(0, Ordering::SeqCst);
        all_frames_are_published(|| ());
        let none = |frames: &AtomicU32| frames.load(Ordering::Acquire) == 0;
        let free = model.frames.iter().all(none);
        if free {
            // SAFETY: as above, from the other side.
            model.memory.with_mut(|memory| unsafe { *memory = 0 });
        }
        free
    }

    #[test]
    fn memory_is_not_freed_under_a_call() {
        loom::model(|| {
            let model = Arc::new(Model {
                live: AtomicU32::new(5),
                frames: [AtomicU32::new(0), AtomicU32::new(0)],
                memory: UnsafeCell::new(7),
            });
            let others: Vec<_> = (0..2)
                .map(|index| {
                    let model = model.clone();
                    thread::spawn(move || call(&model, index))
                })
                .collect();
            let freed = reclaim(&model);
            others.into_iter().for_each(|other| {
                other.join().expect("the thread ends");
            });
            assert!(freed || reclaim(&model), "nobody is in it any more");
        });
    }
}
