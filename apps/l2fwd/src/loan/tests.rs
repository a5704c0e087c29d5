use sumac_interface::net::NetQueue;
use sumac_nullnet::NullQueue;
use sumac_rref::PacketPool;
use sumac_testbed::host::with_pool;

use super::*;
use crate::forward::Shared;

fn queue(pool: &'static PacketPool) -> NullQueue {
    NullQueue::new(pool).expect("the pool has a cache left")
}

fn home(pool: &'static PacketPool, frames: Option<u64>) -> Arc<Home<NullQueue>> {
    let (shared, dump) = (Shared::new(frames), None);
    Home::new(queue(pool), None, Meter::new(1), 0, Terms { shared, dump })
}

/// Frames received, transmitted and dropped, as the run is told.
fn told(home: &Home<NullQueue>) -> [u64; 3] {
    let stats = home.figures().stats();
    [stats.rx_packets, stats.tx_packets, home.figures().gone()]
}

#[test]
fn a_queue_pair_comes_home_before_its_loan() {
    with_pool(256, |_, pool| {
        let home = home(pool, None);
        let mut loan = home.lend().expect("it is at home");
        let mut batch = pool.batch().expect("the heap has room");
        assert_eq!(loan.receive(&mut batch, 4), Ok(4));
        assert_eq!(loan.transmit(&mut batch), Ok(4));
        home.close();
        assert!(home.is_away() && home.withdraw().is_none());
        assert_eq!(loan.reclaim(), 0);
        assert!(!home.is_away());
        drop(home.withdraw().expect("it came home"));
        assert_eq!(told(&home), [4, 4, 0]);

        // What is given to it now is dropped, and nothing comes.
        assert_eq!(loan.allocate(&mut batch, 1, 60), 0);
        let mut other = queue(pool);
        other.allocate(&mut batch, 3, 60);
        let mut none = pool.batch().expect("the heap has room");
        let sent = Exchanged {
            sent: 3,
            received: 0,
        };
        assert_eq!(loan.exchange(&mut batch, &mut none, 5), Ok(sent));
        assert!(batch.is_empty() && none.is_empty());
        assert_eq!(told(&home), [4, 4, 3]);
        drop((other, none));

        home.open(Some(queue(pool)));
        assert_eq!(loan.receive(&mut batch, 2), Ok(2));
        assert_eq!(loan.transmit(&mut batch), Ok(2));
        drop((batch, loan));
        assert_eq!(told(&home), [6, 6, 3]);
        assert!(home.take().is_some() && home.lend().is_none());
        drop(home);
        assert_eq!(pool.audit(), Ok(256));
    });
}

#[test]
fn the_next_loan_has_what_the_last_one_had() {
    with_pool(256, |_, pool| {
        let home = home(pool, Some(3));
        let mut first = home.lend().expect("it is at home");
        let mut second = home.lend().expect("there may be others");
        let mut batch = pool.batch().expect("the heap has room");
        assert_eq!(second.receive(&mut batch, 2), Ok(0), "the first has it");
        assert_eq!(first.receive(&mut batch, 2), Ok(2));
        drop(first);
        // Of three that may come in all.
        assert_eq!(second.receive(&mut batch, 2), Ok(1));
        home.close();
        drop(second);
        assert_eq!(told(&home), [3, 0, 0]);
        let mut third = home.lend().expect("what stands for it");
        assert_eq!(third.receive(&mut batch, 2), Ok(0));
    });
}

/// Whoever sleeps asks the home: what an application would say does not count.
#[test]
fn a_home_knows_whether_its_queue_pair_sleeps() {
    with_pool(256, |_, pool| {
        let home = home(pool, None);
        let mut loan = home.lend().expect("it is at home");
        assert_eq!(loan.arm(), Ok(Armed::Ready));
        assert!(!home.sleeps());
        home.close();
        assert!(!home.sleeps(), "nobody armed it");
        assert_eq!(loan.arm(), Ok(Armed::Sleep));
        assert!(home.sleeps());
        home.wake();
        assert!(!home.sleeps());
    });
}
