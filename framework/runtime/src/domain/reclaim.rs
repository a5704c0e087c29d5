//! What becomes of the dead: in which order all they had is taken back, and when.

use core::sync::atomic::Ordering;

use sumac_rref::{DomainId, SharedHeap};

use super::control::{DEAD, DOMAINS, DYING, FREE, FREED, RECLAIMING, state};
use super::{Domain, Phase};
use crate::host::{Host, host};
use crate::{held, quiescence};

/// A device or another thing of the host's that a domain was given and that must not be used once the
/// domain's memory is free.
pub trait Grant: Send {
    /// Takes it away: for a device, bus mastering off, reset, wait for quiet. Runs once, when no thread
    /// is in the domain any more and before any of its memory is freed.
    fn revoke(&mut self);
}

/// Frees what dead domains own on shared heaps and in packet pools.
pub trait SharedReclaim: Sync {
    /// Drops what `owner` owns, by type; says how many objects are borrowed and have to stay.
    ///
    /// # Safety
    /// No thread has a frame of `owner`, and its grants are revoked.
    unsafe fn reclaim(&self, owner: DomainId) -> usize;
}

impl SharedReclaim for SharedHeap {
    unsafe fn reclaim(&self, owner: DomainId) -> usize {
        // SAFETY: the caller's promise.
        unsafe { SharedHeap::reclaim(self, owner) }.borrowed
    }
}

/// Why a domain is not reclaimed yet. Try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReclaimError {
    /// It lives.
    #[error("the domain is alive")]
    Alive,
    /// This many frames of it are on stacks.
    #[error("{0} calls into the domain have not ended")]
    Frames(usize),
    /// This many of its shared objects are borrowed.
    #[error("{0} shared objects of the domain are borrowed")]
    Borrowed(usize),
    /// It is reclaimed already, or by another thread just now.
    #[error("the domain is reclaimed already")]
    Reclaimed,
}

/// What reclaiming freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Private pages, and those of the image.
    pub pages: usize,
    /// Grants revoked.
    pub grants: usize,
    /// Interface objects of others that it held, dropped.
    pub proxies: usize,
}

impl Domain {
    /// Frees all that a dead domain had: revokes its grants, then `shared` drops its shared objects, then
    /// its private memory goes, without destructors. Its control is free for another domain then.
    ///
    /// # Errors
    /// [`ReclaimError`]: nothing was freed but, with [`Borrowed`](ReclaimError::Borrowed), what no one
    /// borrows.
    pub fn reclaim(self, shared: &dyn SharedReclaim) -> Result<Freed, ReclaimError> {
        let host = host().ok_or(ReclaimError::Reclaimed)?;
        let control = self.control;
        let dead = match self.phase() {
            Phase::Alive => return Err(ReclaimError::Alive),
            Phase::Reclaimed => return Err(ReclaimError::Reclaimed),
            Phase::Dead(cause) => state(self.id, cause as u32, DEAD),
        };
        let reclaiming = dead - u64::from(DEAD) + u64::from(RECLAIMING);
        let (took, failed) = (Ordering::AcqRel, Ordering::Relaxed);
        control
            .state
            .compare_exchange(dead, reclaiming, took, failed)
            .map_err(|now| match now as u32 & 0xff {
                // The thread that ends it is on its way out.
                DYING => ReclaimError::Frames(self.frames().max(1)),
                _ => ReclaimError::Reclaimed,
            })?;
        let result = self.free(host, shared);
        if result.is_ok() {
            // Free first: who is told so by the queue may take it at once.
            let free = dead - u64::from(DEAD) + u64::from(FREE);
            control.state.store(free, Ordering::Release);
            FREED.with(|freed| freed.push_back(self.id.get() % DOMAINS as u32));
        } else {
            control.state.store(dead, Ordering::Release);
        }
        result
    }

    /// The freeing of [`reclaim`](Self::reclaim), by one thread at a time.
    fn free(self, host: &dyn Host, shared: &dyn SharedReclaim) -> Result<Freed, ReclaimError> {
        // `live` was set to 0 before. After the fence a thread that has no frame yet finds that out
        // before it calls; one that found the domain alive has a frame that is seen here.
        quiescence::all_frames_are_published(|| host.fence_all_threads());
        let frames = self.frames();
        if frames != 0 {
            return Err(ReclaimError::Frames(frames));
        }
        let control = self.control;
        let grants = control
            .belongings
            .with(|all| core::mem::take(&mut all.grants));
        let mut freed = Freed {
            pages: 0,
            grants: grants.len(),
            proxies: 0,
        };
        for mut grant in grants {
            grant.revoke();
        }
        // SAFETY: no thread has a frame, and none gets one.
        freed.proxies += unsafe { held::drop_all(self.id) };
        // SAFETY: no thread has a frame, none gets one, and the grants are revoked.
        let borrowed = unsafe { shared.reclaim(self.id) };
        if borrowed != 0 {
            return Err(ReclaimError::Borrowed(borrowed));
        }
        let regions = control
            .belongings
            .with(|all| core::mem::take(&mut all.regions));
        for region in regions {
            freed.pages += region.pages;
            // SAFETY: the region was given to this domain; no thread has a frame of it, and shared
            // objects hold no pointers into private memory.
            unsafe { host.unmap(region.start, region.pages) };
        }
        control.pages_used.store(0, Ordering::Relaxed);
        Ok(freed)
    }
}
