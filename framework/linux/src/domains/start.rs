//! Starting a domain from its file: checked, mapped, entered, and its root object behind a proxy.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sumac_domain::abi::{ABI_VERSION, HostTable};
use sumac_interface::rpc::{Cause, Gate, Interface, RpcError};
use sumac_rref::{DomainId, Object, PacketPool, SharedHeap};
use sumac_runtime::domain::{CreateError, Freed, ReclaimError};
use sumac_runtime::load::{Image, LoadError, TrustedKeys, Verified, load};
use sumac_runtime::{Domain, DomainSpec, GateTo, Grant, Quota, SharedReclaim, calls};

use crate::image::LinuxImages;

/// How long a dead domain's threads may take to leave it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a domain did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its file was refused, or there is no memory for it.
    #[error("{name}: {source}")]
    Load {
        /// The domain.
        name: String,
        /// What is wrong with the file.
        source: LoadError,
    },
    /// This process cannot have it.
    #[error("{name}: {source}")]
    Create {
        /// The domain.
        name: String,
        /// Why not.
        source: CreateError,
    },
    /// It died before it had made its root object.
    #[error("{name}: it failed as it started: {source}; {last_words}")]
    Entry {
        /// The domain.
        name: String,
        /// What the call into it came back with.
        source: RpcError,
        /// What it said last.
        last_words: String,
    },
}

/// A domain that runs, and what it offers.
pub struct Started<I: ?Sized> {
    /// The domain.
    pub domain: Domain,
    /// Its root object, behind a proxy.
    pub root: Object<I>,
}

/// A domain that is started again and again from one file. Its image stays in memory from one life to the
/// next: all of it that a domain cannot write, which is all but its variables.
pub struct Program<I: ?Sized> {
    file: Verified,
    idle: Idle<I>,
}

/// Where the image of a domain lies that does not run.
type Idle<I> = Arc<Mutex<Option<Image<I>>>>;

impl<I: Interface + ?Sized> Program<I> {
    /// The domain in `file`, whose signature was verified.
    pub fn new(file: Verified) -> Self {
        Self {
            file,
            idle: Idle::default(),
        }
    }

    /// The image for another life: that of the one before, if there was one and it is over.
    fn image(&self) -> Result<Image<I>, LoadError> {
        if let Some(mut image) = lock(&self.idle).take() {
            // SAFETY: it came back when no thread was in the domain any more; what the domain made is behind
            // gates, which call nothing of a dead one.
            unsafe { image.renew() }?;
            return Ok(image);
        }
        self.file.load(&LinuxImages)
    }
}

impl<I: ?Sized> Clone for Program<I> {
    /// The same file, for another domain.
    fn clone(&self) -> Self {
        Self {
            file: self.file.clone(),
            idle: Idle::default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The domain's image and the table it keeps a reference to. Both go once no thread is in the domain, the
/// image to where it waits for the next life if there may be one.
struct Tenancy<I: ?Sized> {
    image: Option<Image<I>>,
    idle: Option<Idle<I>>,
    _table: Box<HostTable>,
}

impl<I: ?Sized> Grant for Tenancy<I> {
    fn revoke(&mut self) {
        if let Some(idle) = &self.idle {
            *lock(idle) = self.image.take();
        }
    }
}

/// Starts the domain in `file`, whose root interface is `I`. Should it die while it starts, `shared` frees
/// what it owned by then.
///
/// # Errors
/// [`StartError`]; nothing of the domain is left then.
pub fn start<I: Interface + ?Sized>(
    name: &str,
    file: &[u8],
    trust: &TrustedKeys,
    quota: Quota,
    shared: &dyn SharedReclaim,
) -> Result<Started<I>, StartError> {
    let image = load::<I>(file, trust, &LinuxImages);
    enter(name, image, None, quota, shared)
}

/// As [`start`], one life of a domain that may have had others.
///
/// # Errors
/// [`StartError`]; nothing of the domain is left then but its image.
pub fn start_program<I: Interface + ?Sized>(
    name: &str,
    program: &Program<I>,
    quota: Quota,
    shared: &dyn SharedReclaim,
) -> Result<Started<I>, StartError> {
    let idle = Some(Arc::clone(&program.idle));
    enter(name, program.image(), idle, quota, shared)
}

/// As [`start_program`], and has the domain begin its work; one that does not is ended.
///
/// # Errors
/// [`StartError`], or what `begin` says; nothing of the domain is left then but its image.
pub fn start_with<I: Interface + ?Sized, T, E: From<StartError>>(
    name: &str,
    program: &Program<I>,
    quota: Quota,
    shared: &dyn SharedReclaim,
    begin: impl FnOnce(Domain, Object<I>) -> Result<T, E>,
) -> Result<(Domain, T), E> {
    let Started { domain, root } = start_program(name, program, quota, shared)?;
    let begun = begin(domain, root).inspect_err(|_| end(name, domain, shared))?;
    Ok((domain, begun))
}

/// Ends a domain and frees all it had, where nobody can be told that this fails.
fn end(name: &str, domain: Domain, shared: &dyn SharedReclaim) {
    domain.kill(Cause::Killed);
    if let Err(error) = bury(domain, shared) {
        log::error!("{name}: what it had could not be freed: {error}");
    }
}

fn enter<I: Interface + ?Sized>(
    name: &str,
    image: Result<Image<I>, LoadError>,
    idle: Option<Idle<I>>,
    quota: Quota,
    shared: &dyn SharedReclaim,
) -> Result<Started<I>, StartError> {
    let image = image.map_err(|source| StartError::Load {
        name: name.to_owned(),
        source,
    })?;
    let spec = DomainSpec {
        name: name.to_owned(),
        quota,
        code: image.code(),
    };
    let domain = Domain::create(spec).map_err(|source| StartError::Create {
        name: name.to_owned(),
        source,
    })?;
    let table = Box::new(HostTable {
        version: ABI_VERSION,
        domain: domain.id().get(),
        grow: calls::grow,
        fail: calls::fail,
        log: calls::log,
    });
    // SAFETY: the box stays where it is, kept by the domain until no thread is in it.
    let table_for_domain: &'static HostTable = unsafe { NonNull::from(&*table).as_ref() };
    let gate = GateTo::new(domain);
    // SAFETY: entered once, behind its gate; image and table are kept by the domain, as a grant that goes
    // when no thread is in it any more. Should the domain die meanwhile its object is forgotten, not dropped.
    let root = gate.cross(|| unsafe { ManuallyDrop::new(image.enter(table_for_domain)) });
    domain.grant(Box::new(Tenancy {
        image: Some(image),
        idle,
        _table: table,
    }));
    match root {
        Ok(root) => Ok(Started {
            domain,
            root: I::proxy(ManuallyDrop::into_inner(root), gate),
        }),
        Err(source) => {
            let last_words = domain.last_words();
            end(name, domain, shared);
            Err(StartError::Entry {
                name: name.to_owned(),
                source,
                last_words,
            })
        }
    }
}

/// What domains share: a heap and the packet pools on it.
pub struct Shared {
    /// The heap.
    pub heap: &'static SharedHeap,
    /// Every pool that a domain was granted.
    pub pools: Vec<&'static PacketPool>,
}

impl SharedReclaim for Shared {
    unsafe fn reclaim(&self, owner: DomainId) -> usize {
        // SAFETY: the caller's promise.
        let borrowed = unsafe { self.heap.reclaim(owner) }.borrowed;
        for pool in &self.pools {
            // SAFETY: the caller's promise; tables of rings are the device grants', which were revoked.
            unsafe { pool.recover(owner, []) };
        }
        borrowed
    }
}

/// Waits until no thread is in a dead domain, and frees all it had.
///
/// # Errors
/// [`ReclaimError`] when that took too long, or it lives.
pub fn bury(domain: Domain, shared: &dyn SharedReclaim) -> Result<Freed, ReclaimError> {
    let start = Instant::now();
    loop {
        match domain.reclaim(shared) {
            Err(ReclaimError::Frames(_) | ReclaimError::Borrowed(_))
                if start.elapsed() < PATIENCE =>
            {
                domain.interrupt();
                std::thread::sleep(Duration::from_micros(50));
            }
            result => return result,
        }
    }
}
