//! Interrupts: causes, masks, vectors, moderation (sections 7.3, 8.2.3.5).

use std::sync::Mutex;

use super::*;

/// A device whose interrupts are listened to.
struct Listener {
    bench: Bench,
    told: Arc<Mutex<Vec<u32>>>,
}

impl Listener {
    fn new(gpie: u32) -> Self {
        let mut bench = Bench::new();
        let told = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&told);
        let hook = move |vector| seen.lock().unwrap().push(vector);
        bench.core.on_interrupt(Box::new(hook));
        bench.write(r::GPIE, gpie);
        Self { bench, told }
    }

    fn with_vectors() -> Self {
        let mut listener = Self::new(r::GPIE_MSIX | r::GPIE_OCD | r::GPIE_EIAME);
        listener.bench.write(r::IVAR_MISC, 0x80 << 8 | 9 << 8);
        listener.bench.write(r::EIAC, 0xFFFF);
        listener
    }

    fn told(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.told.lock().unwrap())
    }

    fn write(&mut self, offset: u32, value: u32) {
        self.bench.write(offset, value);
    }

    fn read(&mut self, offset: u32) -> u32 {
        self.bench.read(offset)
    }

    fn poll_at(&mut self, now_ns: u64) {
        let access = self.bench.dma.window().access();
        self.bench.core.poll(&access, &mut self.bench.wire, now_ns);
    }
}

#[test]
fn without_vectors_causes_share_one_and_reading_clears() {
    let mut device = Listener::new(0);
    device.write(r::EICS, 1 << 3);
    assert!(device.told().is_empty() && !device.bench.core.interrupt_pending());
    device.write(r::EIMS, 1 << 3 | 1 << 5 | r::EICR_LINK);
    assert_eq!(device.told(), [0], "pending when it was unmasked");
    assert!(device.bench.core.interrupt_pending());
    device.write(r::EIMC, 1 << 3);
    assert_eq!(device.read(r::EIMS), 1 << 5 | r::EICR_LINK);
    assert!(!device.bench.core.interrupt_pending());
    device.write(r::EICS, 1 << 4);
    device.write(r::EICR, 1 << 3);
    assert_eq!(device.read(r::EICS), 1 << 4, "reading EICS clears nothing");
    assert_eq!(device.read(r::EICR), 1 << 4);
    assert_eq!(device.read(r::EICR), 0);
    assert!(device.told().is_empty());
}

#[test]
fn reading_causes_masks_what_eiam_names() {
    let mut device = Listener::new(0);
    device.write(r::EIAM, 0xFFFF);
    device.write(r::EIMS, 0xFFFF | r::EICR_LINK);
    device.write(r::EICS, 1);
    assert_eq!(device.told(), [0]);
    assert_eq!(device.read(r::EICR), 1);
    assert_eq!(device.read(r::EIMS), r::EICR_LINK);
    device.write(r::EICS, 1);
    assert!(device.told().is_empty());
    device.write(r::EIMS, 1);
    assert_eq!(device.told(), [0], "no wake-up is lost");
}

#[test]
fn a_message_clears_and_masks_its_own_cause() {
    let mut device = Listener::with_vectors();
    device.write(r::EIAM_EX, u32::MAX);
    device.write(r::EIMS_EX, 1 << 2 | 1 << 5);
    device.write(r::EICS, 1 << 2);
    assert_eq!(device.told(), [2]);
    assert_eq!(device.read(r::EICR), 0, "cleared by EIAC");
    assert_eq!(device.read(r::EIMS), 1 << 5, "masked by EIAM");
    device.write(r::EICS_EX, 1 << 2);
    assert!(device.told().is_empty());
    device.write(r::EIMS_EX, 1 << 2);
    assert_eq!(device.told(), [2]);
}

#[test]
fn vectors_beyond_the_sixteenth_are_masked_apart() {
    let mut device = Listener::with_vectors();
    device.write(r::EIMS_EX + 4, 1 << 3);
    device.write(r::EICS_EX + 4, 1 << 3 | 1 << 4);
    assert_eq!(device.told(), [35]);
    assert_eq!(device.read(r::EICR), 0);
    device.write(r::EIMC_EX + 4, 1 << 3);
    device.write(r::EICS_EX + 4, 1 << 3);
    assert!(device.told().is_empty());
    assert_eq!(device.read(r::EIMS_EX + 4), 0);
}

#[test]
fn a_link_change_has_the_other_vector_and_is_told_until_cleared() {
    let mut device = Listener::with_vectors();
    device.write(r::EIMS, r::EICR_LINK);
    device.bench.wire.link.set(false);
    device.poll_at(1);
    assert_eq!(device.told(), [9]);
    device.poll_at(2);
    assert!(device.told().is_empty());
    assert_eq!(device.read(r::EICS), r::EICR_LINK, "EIAC does not name it");
    device.bench.wire.link.set(true);
    device.poll_at(3);
    assert_eq!(device.told(), [9], "the link has changed again");
    device.write(r::EICR, r::EICR_LINK);
    assert_eq!(device.read(r::EICS), 0);
}

#[test]
fn reading_leaves_queues_alone_where_ocd_says_so() {
    let mut device = Listener::new(r::GPIE_MSIX | r::GPIE_OCD);
    device.write(r::EICS, 1 << 1 | r::EICR_LINK);
    assert_eq!(device.read(r::EICR), 1 << 1 | r::EICR_LINK);
    assert_eq!(device.read(r::EICR), 1 << 1);
}

#[test]
fn a_vector_waits_for_its_interval_to_end() {
    let mut device = Listener::with_vectors();
    device.write(r::eitr(1), 50 << 3);
    device.write(r::EIMS_EX, 1 << 1 | 1 << 2);
    device.poll_at(1_000);
    device.write(r::EICS, 1 << 1);
    assert_eq!(device.told(), [1]);
    device.write(r::EICS, 1 << 1 | 1 << 2);
    assert_eq!(device.told(), [2], "another vector does not wait");
    device.poll_at(1_000 + 50 * 2_048 - 1);
    assert!(device.told().is_empty());
    device.poll_at(1_000 + 50 * 2_048);
    assert_eq!(device.told(), [1]);
    device.poll_at(10_000_000);
    assert!(device.told().is_empty(), "one message for one cause");
    device.write(r::GPIE, r::GPIE_MSIX | r::GPIE_EIMEN);
    device.write(r::EICS, 1 << 1);
    device.write(r::EICS, 1 << 1);
    assert_eq!(device.told(), [1, 1], "EIMEN lets EICS pass");
    device.write(r::EICS, 1 << 2);
    assert_eq!(device.told(), [2]);
    device.bench.core.raise(1 << 1);
    assert!(device.told().is_empty(), "the others keep their interval");
}

#[test]
fn a_queue_has_the_vector_of_its_allocation() {
    for (gpie, ivar, vector, shown) in [
        (0, 0x86, 0, 1 << 6),
        (r::GPIE_MSIX, 0x86, 6, 1 << 6),
        (r::GPIE_MSIX, 0xA3, 35, 0),
    ] {
        let mut device = Listener::new(gpie);
        let _ring = device.bench.receive_queue(1, 0);
        // Queue 1's receive cause is the third byte of IVAR(0).
        device.write(r::IVAR, ivar << 16);
        device.write(r::MRQC, 1 | 1 << 17);
        (0..32).for_each(|at| device.write(r::RETA + 4 * at, 0x0101_0101));
        device.write(r::EIMS_EX, u32::MAX);
        device.write(r::EIMS_EX + 4, u32::MAX);
        device.bench.start_receiver();
        let frame = super::offloads::udp(60, true);
        device.bench.wire.arriving.push_back(frame);
        assert_eq!(device.bench.poll(), 1);
        assert_eq!(device.told(), [vector]);
        assert_eq!(device.read(r::EICR), shown);
    }
}

#[test]
fn a_reset_forgets_causes_and_masks_but_not_who_listens() {
    let mut device = Listener::with_vectors();
    device.write(r::EIMS, 0xFFFF);
    device.write(r::EIMC, 1);
    device.write(r::EICS, 1);
    device.write(r::CTRL, r::CTRL_RESET);
    for register in [r::EICS, r::EIMS, r::EIAM, r::EIMS_EX, r::GPIE] {
        assert_eq!(device.read(register), 0);
    }
    device.write(r::EIMS, 1);
    device.write(r::EICS, 1);
    assert_eq!(device.told(), [0]);
}
