//! A forwarder's round in one call: the same frames go each way as in two, through a lane too.

use sumac_interface::domain::{LaneOf, RemoteQueue};
use sumac_interface::net::{Exchanged, NetQueue};
use sumac_nullnet::NullQueue;
use sumac_rref::PacketPool;
use sumac_testbed::host::with_pool;

fn rounds(queue: &mut impl NetQueue, pool: &'static PacketPool) {
    let mut send = pool.batch().expect("the heap has room");
    let mut receive = pool.batch().expect("the heap has room");
    let nothing = queue.exchange(&mut send, &mut receive, 0);
    assert_eq!(nothing, Ok(Exchanged::default()));
    assert_eq!(queue.allocate(&mut send, 5, 60), 5);
    let sent = queue.exchange(&mut send, &mut receive, 0);
    assert_eq!(
        sent,
        Ok(Exchanged {
            sent: 5,
            received: 0
        })
    );
    let received = queue.exchange(&mut send, &mut receive, 3);
    assert_eq!(
        received,
        Ok(Exchanged {
            sent: 0,
            received: 3
        })
    );
    assert_eq!((send.len(), receive.len()), (0, 3));
    // What came last time is there still, and does not count again.
    let both = queue.exchange(&mut receive, &mut send, 4);
    assert_eq!(
        both,
        Ok(Exchanged {
            sent: 3,
            received: 4
        })
    );
    assert_eq!((send.len(), receive.len()), (4, 0));
    let more = queue.receive(&mut send, 2);
    assert_eq!((more, send.len()), (Ok(2), 6));
    let stats = queue.stats();
    assert_eq!((stats.tx_packets, stats.rx_packets), (8, 9));
}

#[test]
fn a_queue_and_one_behind_a_lane_exchange_alike() {
    with_pool(256, |_, pool| {
        let queue = || NullQueue::new(pool).expect("the pool has a cache left");
        rounds(&mut queue(), pool);
        rounds(&mut RemoteQueue::new(LaneOf::object(queue()), pool), pool);
        assert_eq!(pool.audit(), Ok(256));
    });
}
