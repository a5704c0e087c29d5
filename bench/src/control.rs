//! The page that harness, device and a peer share: commands out, windows back.
//!
//! A peer is another process or another thread; the layout is that of `struct control` in
//! `peers/dpdk_peer.c`. What each side writes has cache lines of its own, so that a window is not
//! disturbed by who looks at it.
// UNSAFETY: memory shared between processes, and futexes, which the standard library lacks.
#![expect(unsafe_code)]

use std::mem::offset_of;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Most windows of one command.
pub const MAX_WINDOWS: usize = 512;

/// What a turn of a peer's loop does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Receive, read length, hash and flags, free.
    Receive,
    /// Allocate, set the length, send.
    Transmit,
    /// Receive and send untouched.
    Forward,
    /// Receive, swap source and destination address, send.
    Macswap,
}

/// How a window is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Driver and device run side by side for a millisecond.
    Stream,
    /// The device fills the ring and stands still; the driver is timed alone.
    Phase,
    /// The device takes its turns on the driver's core, between the timed sections.
    Stepped,
    /// No window: the peer ends.
    Quit,
}

/// One measured window, as the peer reports it.
#[repr(C)]
#[derive(Debug, Default)]
struct WindowCells {
    ticks: AtomicU64,
    packets: AtomicU64,
    round_trip: AtomicU64,
    switches: AtomicU64,
    longest: AtomicU64,
    stale: AtomicU64,
    empty: AtomicU64,
    device_idle: AtomicU64,
}

/// One measured window. Times are ticks of the time stamp counter.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Window {
    /// How long it was.
    pub ticks: u64,
    /// Packets moved in it.
    pub packets: u64,
    /// Median round trip of a cache line between the two cores just before; 0 on one core.
    pub round_trip: u64,
    /// Involuntary context switches of the peer.
    pub switches: u64,
    /// The longest stretch between two looks at the clock.
    pub longest: u64,
    /// The oldest heartbeat of the device that was seen.
    pub stale: u64,
    /// Turns of the peer's loop that moved no packet.
    pub empty: u64,
    /// Turns of the device without work, of a thousand.
    pub device_idle: u64,
}

#[repr(C, align(64))]
struct Command {
    command: AtomicU32,
    mode: AtomicU32,
    batch: AtomicU32,
    kind: AtomicU32,
    windows: AtomicU32,
    unused: u32,
    window_ticks: AtomicU64,
}

#[repr(C, align(64))]
struct Answer {
    done: AtomicU32,
    ready: AtomicU32,
}

/// A value on a cache line of its own.
#[repr(C, align(64))]
pub struct Line<T>(pub T);

/// What the device's core tells.
#[repr(C, align(64))]
pub struct Pulse {
    /// Time stamp of its latest sign of life.
    pub heartbeat: AtomicU64,
    /// Turns so far.
    pub turns: AtomicU64,
    /// Those without work.
    pub idle_turns: AtomicU64,
}

/// The shared page. See `struct control` in `peers/dpdk_peer.c` for who writes what.
#[repr(C)]
pub struct Control {
    command: Command,
    answer: Answer,
    /// The peer asks for a pong; 0 ends the game.
    pub ping: Line<AtomicU64>,
    /// The device's core answers with the same number.
    pub pong: Line<AtomicU64>,
    /// The device's core.
    pub pulse: Pulse,
    /// Phase mode: 1 fill the ring and stand still, 2 run on.
    pub pause: Line<AtomicU32>,
    /// The device's answer: the same number.
    pub paused: Line<AtomicU32>,
    /// Stepped mode: whose turn it is.
    pub turn: Line<AtomicU32>,
    results: Line<[WindowCells; MAX_WINDOWS]>,
}

const _: () = {
    assert!(offset_of!(Command, window_ticks) == 24);
    assert!(offset_of!(Control, answer) == 64);
    assert!(offset_of!(Control, ping) == 128);
    assert!(offset_of!(Control, pulse) == 256);
    assert!(offset_of!(Control, pause) == 320);
    assert!(offset_of!(Control, turn) == 448);
    assert!(offset_of!(Control, results) == 512);
    assert!(size_of::<WindowCells>() == 64);
};

/// In stepped mode, the device's turn.
pub const DEVICE: u32 = 0;
/// In stepped mode, the peer's turn.
pub const PEER: u32 = 1;

/// What a peer is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What a turn does.
    pub mode: Mode,
    /// How it is timed.
    pub kind: Kind,
    /// Packets a turn.
    pub batch: u32,
    /// How many windows.
    pub windows: u32,
    /// Length of a streaming window.
    pub window_ticks: u64,
}

impl Control {
    /// Gives an order; returns its number.
    pub fn give(&self, order: Order) -> u32 {
        self.command
            .mode
            .store(order.mode as u32, Ordering::Relaxed);
        self.command
            .kind
            .store(order.kind as u32, Ordering::Relaxed);
        self.command.batch.store(order.batch, Ordering::Relaxed);
        self.command.windows.store(order.windows, Ordering::Relaxed);
        let ticks = &self.command.window_ticks;
        ticks.store(order.window_ticks, Ordering::Relaxed);
        let number = self.command.command.fetch_add(1, Ordering::Release) + 1;
        wake(&self.command.command);
        number
    }

    /// Waits for an order after number `done`. For the peer.
    pub fn take(&self, done: u32) -> (u32, Order) {
        loop {
            let number = self.command.command.load(Ordering::Acquire);
            if number != done {
                return (number, self.order());
            }
            wait(&self.command.command, done, None);
        }
    }

    fn order(&self) -> Order {
        let word = |cell: &AtomicU32| cell.load(Ordering::Relaxed);
        Order {
            mode: match word(&self.command.mode) {
                0 => Mode::Receive,
                1 => Mode::Transmit,
                2 => Mode::Forward,
                _ => Mode::Macswap,
            },
            kind: match word(&self.command.kind) {
                0 => Kind::Stream,
                1 => Kind::Phase,
                2 => Kind::Stepped,
                _ => Kind::Quit,
            },
            batch: word(&self.command.batch).clamp(1, 64),
            windows: word(&self.command.windows).min(MAX_WINDOWS as u32),
            window_ticks: self.command.window_ticks.load(Ordering::Relaxed),
        }
    }

    /// Reports order `number` as done. For the peer.
    pub fn finish(&self, number: u32) {
        self.answer.done.store(number, Ordering::Release);
    }

    /// Whether order `number` is done.
    pub fn finished(&self, number: u32) -> bool {
        self.answer.done.load(Ordering::Acquire) == number
    }

    /// Says whether the peer's ports came up. For the peer.
    pub fn set_ready(&self, up: bool) {
        self.answer
            .ready
            .store(if up { 1 } else { 2 }, Ordering::Release);
    }

    /// Whether the peer's ports came up: nothing said yet, yes, or no.
    pub fn ready(&self) -> Option<bool> {
        match self.answer.ready.load(Ordering::Acquire) {
            0 => None,
            ready => Some(ready == 1),
        }
    }

    /// Stores window `index`. For the peer.
    pub fn set_window(&self, index: usize, window: Window) {
        let Some(cells) = self.results.0.get(index) else {
            return;
        };
        for (cell, value) in [
            (&cells.ticks, window.ticks),
            (&cells.packets, window.packets),
            (&cells.round_trip, window.round_trip),
            (&cells.switches, window.switches),
            (&cells.longest, window.longest),
            (&cells.stale, window.stale),
            (&cells.empty, window.empty),
            (&cells.device_idle, window.device_idle),
        ] {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// The first `count` windows.
    pub fn windows(&self, count: usize) -> Vec<Window> {
        let value = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let cells = self.results.0.iter().take(count);
        cells
            .map(|cells| Window {
                ticks: value(&cells.ticks),
                packets: value(&cells.packets),
                round_trip: value(&cells.round_trip),
                switches: value(&cells.switches),
                longest: value(&cells.longest),
                stale: value(&cells.stale),
                empty: value(&cells.empty),
                device_idle: value(&cells.device_idle),
            })
            .collect()
    }

    /// Stepped mode: ends one's own turn and waits for the next one.
    pub fn hand_over(&self, to: u32, own: u32) {
        self.turn.0.store(to, Ordering::Release);
        wake(&self.turn.0);
        while self.turn.0.load(Ordering::Acquire) != own {
            wait(&self.turn.0, to, None);
        }
    }

    /// Stepped mode, the device: waits up to a millisecond for its turn.
    pub fn device_turn(&self) -> bool {
        if self.turn.0.load(Ordering::Acquire) != DEVICE {
            wait(&self.turn.0, PEER, Some(Duration::from_millis(1)));
        }
        self.turn.0.load(Ordering::Acquire) == DEVICE
    }

    /// Stepped mode, the device: gives the turn to the peer.
    pub fn end_device_turn(&self) {
        self.turn.0.store(PEER, Ordering::Release);
        wake(&self.turn.0);
    }
}

/// A control page and the file behind it.
pub struct ControlPage {
    file: OwnedFd,
    page: NonNull<Control>,
}

// SAFETY: the page is only reached as `&Control`, which is atomics.
unsafe impl Send for ControlPage {}
// SAFETY: as above.
unsafe impl Sync for ControlPage {}

impl ControlPage {
    /// A fresh page, all zero, the first turn the peer's.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new() -> nix::Result<Self> {
        let file = memfd_create(c"sumac-control", MFdFlags::MFD_CLOEXEC)?;
        nix::unistd::ftruncate(&file, size_of::<Control>() as libc::off_t)?;
        let length = NonZeroUsize::MIN.saturating_add(size_of::<Control>() - 1);
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new shared mapping at an address of the kernel's choice.
        let page = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, &file, 0)? }.cast();
        let page = Self { file, page };
        page.turn.0.store(PEER, Ordering::Relaxed);
        Ok(page)
    }

    /// A path by which another process may open the page while this one lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }
}

impl std::ops::Deref for ControlPage {
    type Target = Control;
    fn deref(&self) -> &Control {
        // SAFETY: mapped, page-aligned and zeroed (a valid `Control`) as long as `self` lives.
        unsafe { self.page.as_ref() }
    }
}

impl Drop for ControlPage {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody borrows any more.
        let _ = unsafe { munmap(self.page.cast(), size_of::<Control>()) };
    }
}

fn wait(cell: &AtomicU32, value: u32, limit: Option<Duration>) {
    let limit = limit.map(|limit| libc::timespec {
        tv_sec: limit.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(limit.subsec_nanos()),
    });
    let limit: *const libc::timespec = limit.as_ref().map_or(std::ptr::null(), |limit| limit);
    // SAFETY: a futex on a live cell; the time limit lives until the call returns.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            cell.as_ptr(),
            libc::FUTEX_WAIT,
            value,
            limit,
        )
    };
}

fn wake(cell: &AtomicU32) {
    // SAFETY: a futex on a live cell.
    unsafe { libc::syscall(libc::SYS_futex, cell.as_ptr(), libc::FUTEX_WAKE, 1) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_windows_go_through_the_page() {
        let page = ControlPage::new().unwrap();
        let order = Order {
            mode: Mode::Macswap,
            kind: Kind::Phase,
            batch: 32,
            windows: 2,
            window_ticks: 1 << 40,
        };
        let number = page.give(order);
        assert_eq!(page.take(0), (number, order));
        let window = Window {
            ticks: 1,
            packets: 2,
            round_trip: 3,
            switches: 4,
            longest: 5,
            stale: 6,
            empty: 7,
            device_idle: 8,
        };
        page.set_window(1, window);
        page.finish(number);
        assert!(page.finished(number));
        assert_eq!(page.windows(2), [Window::default(), window]);
    }

    #[test]
    fn turns_alternate() {
        let page = ControlPage::new().unwrap();
        let mut order = Vec::new();
        std::thread::scope(|scope| {
            let device = scope.spawn(|| {
                let mut turns = 0;
                while turns < 100 {
                    if page.device_turn() {
                        turns += 1;
                        page.end_device_turn();
                    }
                }
                turns
            });
            for turn in 0..100 {
                page.hand_over(DEVICE, PEER);
                order.push(turn);
            }
            assert_eq!(device.join().unwrap(), order.len());
        });
    }
}
