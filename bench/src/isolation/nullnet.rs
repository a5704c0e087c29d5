//! The ladder over a port that does nothing: packets handed to it and straight back, without a boundary, over
//! one, and through a shadow. What is left is what the boundary costs, as in the paper's figure 7.

use std::path::Path;
use std::time::Duration;

use sumac_devices::memory::SimDma;
use sumac_interface::domain::{CreateLane, NetLane};
use sumac_interface::net::NetQueue;
use sumac_interface::{Object, Policy, RpcError, Shadow};
use sumac_linux::time::TickCounter;
use sumac_nullnet::NullQueue;
use sumac_rref::{PacketBatch, PacketPool, PoolGrant};

use super::{Candidate, Disturbed, IsolationError, domain, heap, machine, measure, row};
use crate::report::{Report, Row};

/// Packets a turn.
pub const BATCHES: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Packets in a window.
const PACKETS: u64 = 16_384;
/// How often all of a batch's windows are divided among applications with batches of their own: where those lie
/// in memory makes a difference of a tick or two.
const PLACES: usize = 8;

/// An application that forwards: it looks at what came and sends it on.
struct Forwarder {
    send: Option<PacketBatch>,
    receive: Option<PacketBatch>,
    seen: u64,
}

impl Forwarder {
    fn new(pool: &'static PacketPool) -> Result<Self, IsolationError> {
        let batch = || {
            pool.batch()
                .map_err(|error| IsolationError::Failed(error.to_string()))
        };
        Ok(Self {
            send: Some(batch()?),
            receive: Some(batch()?),
            seen: 0,
        })
    }

    /// Looks at what came, as a forwarder does; it is what is sent next.
    #[inline(always)]
    fn turn(&mut self, send: PacketBatch, mut receive: PacketBatch) {
        for mut packet in receive.packets_mut() {
            self.seen = self.seen.wrapping_add(packet.data_mut().len() as u64);
        }
        (self.send, self.receive) = (Some(receive), Some(send));
    }

    /// A round without a boundary.
    #[inline(always)]
    fn direct(&mut self, queue: &mut NullQueue, batch: u32) {
        if let (Some(mut send), Some(mut receive)) = (self.send.take(), self.receive.take()) {
            // The only error is a batch of another pool, which these are not.
            let _ = queue.transmit(&mut send);
            let _ = queue.receive(&mut receive, batch as usize);
            self.turn(send, receive);
        }
    }

    /// A round in one call.
    #[inline(always)]
    fn through(&mut self, lane: &mut dyn NetLane, batch: u32) {
        if let (Some(send), Some(receive)) = (self.send.take(), self.receive.take())
            && let Ok((send, receive)) = lane.exchange(send, receive, batch)
        {
            self.turn(send, receive);
        }
    }
}

/// The ladder's steps: a pair of queues of one's own, one in a domain, one behind a shadow.
struct Steps<S> {
    queue: NullQueue,
    plain: Object<dyn NetLane>,
    shadow: S,
}

impl<S: NetLane> Steps<S> {
    /// Windows of each step at this batch, in turns.
    fn measure(
        &mut self,
        pool: &'static PacketPool,
        batch: u32,
        windows: usize,
    ) -> Result<Vec<Vec<f64>>, IsolationError> {
        let app = || Forwarder::new(pool);
        // All at once, so that each has other places.
        let places = (0..PLACES).map(|_| Ok([app()?, app()?, app()?]));
        let mut places = places.collect::<Result<Vec<_>, IsolationError>>()?;
        let mut figures = vec![Vec::new(); 3];
        for apps in &mut places {
            let [first, second, third] = apps;
            let mut candidates = [
                candidate("driver", batch, |runs| {
                    (0..runs).for_each(|_| first.direct(&mut self.queue, batch));
                }),
                candidate("domain", batch, |runs| {
                    (0..runs).for_each(|_| second.through(&mut *self.plain, batch));
                }),
                candidate("shadow", batch, |runs| {
                    (0..runs).for_each(|_| third.through(&mut self.shadow, batch));
                }),
            ];
            let here = measure(&mut candidates, windows.div_ceil(PLACES), Disturbed::Drop);
            drop(candidates);
            for (all, here) in figures.iter_mut().zip(here) {
                all.extend(here);
            }
            if apps.iter().any(|app| app.send.is_none()) {
                return Err(IsolationError::Failed(
                    "the domain died while it was measured".to_owned(),
                ));
            }
        }
        Ok(figures)
    }
}

/// Measures the ladder at every batch; `windows` windows of each step.
///
/// # Errors
/// [`IsolationError`].
pub fn run(folder: &Path, windows: usize) -> Result<Report, IsolationError> {
    let counter = TickCounter::start();
    let heap = heap()?;
    let failed = |error: &dyn std::fmt::Display| IsolationError::Failed(error.to_string());
    let dma = SimDma::new().map_err(|error| failed(&error))?;
    let pool = PacketPool::create(heap, &dma, 4096).map_err(|error| failed(&error))?;
    let mut nullnet = domain::<dyn CreateLane>(folder, "nullnet", heap)?;
    let mut lane = || -> Result<Object<dyn NetLane>, IsolationError> {
        let lane = nullnet.root.create(PoolGrant::new(pool));
        lane.map_err(|error| failed(&error))
    };
    let policy = Policy {
        limit: 1,
        first_pause: Duration::ZERO,
        longest_pause: Duration::ZERO,
    };
    let again = |_: Duration| Err(RpcError::Refused);
    let mut ladder = Steps {
        queue: NullQueue::new(pool).map_err(|error| failed(&error))?,
        plain: lane()?,
        shadow: Shadow::<dyn NetLane, _>::new(lane()?, again, policy),
    };
    let mut rows = Vec::new();
    for batch in BATCHES {
        let figures = ladder.measure(pool, batch, windows)?;
        rows.extend(steps(batch, &figures));
    }
    Ok(Report {
        machine: machine(&counter),
        rows,
        tolerated: Vec::new(),
    })
}

/// A step of the ladder, to be measured.
fn candidate<'a>(name: &str, batch: u32, work: impl FnMut(u64) + 'a) -> Candidate<'a> {
    Candidate {
        name: name.to_owned(),
        units: batch.into(),
        work: Box::new(work),
        runs: PACKETS / u64::from(batch),
    }
}

/// A batch's rows: each step beside the one without a boundary. The ratio is of packets a second, as the
/// paper has it: 1 is as fast as without.
fn steps(batch: u32, figures: &[Vec<f64>]) -> Vec<Row> {
    let [driver, rest @ ..] = figures else {
        return Vec::new();
    };
    let first = row(
        &format!("driver/{batch}"),
        "ticks/packet",
        driver,
        None,
        None,
    );
    let others = ["domain", "shadow"]
        .iter()
        .zip(rest)
        .map(|(name, figures)| {
            let paper = match (*name, batch) {
                ("domain", 32) => Some(0.77),
                ("shadow", 32) => Some(0.69),
                ("domain", 1) => Some(0.31),
                _ => None,
            };
            let mut row = row(
                &format!("{name}/{batch}"),
                "ticks/packet",
                figures,
                Some(("driver", driver)),
                paper,
            );
            row.ratio = row.ratio.map(f64::recip);
            row.spread = row.spread.map(|[low, high]| [high.recip(), low.recip()]);
            row
        });
    std::iter::once(first).chain(others).collect()
}
