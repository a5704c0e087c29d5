//! A function's interrupts on their way to the other process: eventfds, masks, and what is pending.
//!
//! Invariant: an interrupt that is masked, or has nowhere to go yet, is kept and told as soon as it can be.
//! Telling never blocks, whatever the other side does to a descriptor it has sent ([`Teller`]).

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::message::{SetIrqs, irq};
use super::teller::Teller;

/// What `/proc` calls an eventfd.
const EVENTFD: &str = "anon_inode:[eventfd]";

/// One interrupt.
#[derive(Default)]
struct Line {
    eventfd: Option<OwnedFd>,
    masked: bool,
    pending: bool,
}

impl Line {
    /// It happens. `false`: it has to wait.
    fn tell(&mut self, teller: &Teller) {
        self.pending = true;
        self.retry(teller);
    }

    fn retry(&mut self, teller: &Teller) {
        if !self.pending || self.masked {
            return;
        }
        if let Some(eventfd) = &self.eventfd {
            self.pending = teller.tell(eventfd.as_fd()).is_err();
        }
    }
}

/// The interrupts of a PCI function, of every kind.
pub struct Lines {
    state: Mutex<State>,
    teller: Teller,
}

struct State {
    pin: Line,
    /// The command register allows the pin.
    pin_allowed: bool,
    msi: Line,
    vectors: Vec<Line>,
    /// Tells of errors on the bus, of which there are none.
    error: Line,
}

/// What the other side asks of some of the lines, one after another.
enum Act {
    Mask,
    Unmask,
    Trigger,
    Assign(Option<OwnedFd>),
}

/// What a message asks, of lines that there are.
pub struct Change {
    index: u32,
    lines: Range<usize>,
    acts: Vec<Option<Act>>,
}

impl Lines {
    /// The lines of a function with so many MSI-X vectors.
    ///
    /// # Errors
    /// What the system says if it has no asynchronous I/O, or no more of it.
    pub fn new(vectors: u16) -> io::Result<Self> {
        Ok(Self {
            state: Mutex::new(State::new(vectors.into())),
            teller: Teller::new()?,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The function has an interrupt for `vector`; one without vectors has number 0.
    pub fn raise(&self, vector: u32) {
        let state = &mut *self.lock();
        if state.vectors.iter().any(|line| line.eventfd.is_some()) {
            if let Some(line) = state.vectors.get_mut(vector as usize) {
                line.tell(&self.teller);
            }
        } else if state.msi.eventfd.is_some() {
            state.msi.tell(&self.teller);
        } else if state.pin.eventfd.is_some() {
            state.raise_pin(&self.teller);
        } else if let Some(line) = state.vectors.get_mut(vector as usize) {
            line.pending = true;
        }
    }

    /// Whether the command register allows the pin.
    pub fn allow_pin(&self, allowed: bool, asserted: bool) {
        let state = &mut *self.lock();
        state.pin_allowed = allowed;
        if asserted {
            state.raise_pin(&self.teller);
        }
    }

    /// The function was reset: nothing is pending.
    pub fn reset(&self) {
        let state = &mut *self.lock();
        for line in state.all() {
            line.pending = false;
        }
        state.pin.masked = false;
        state.pin_allowed = true;
    }

    /// The other side is gone.
    pub fn clear(&self) {
        let state = &mut *self.lock();
        *state = State::new(state.vectors.len());
    }

    /// Whether vector `vector` waits to be told.
    pub fn is_pending(&self, vector: usize) -> bool {
        self.lock()
            .vectors
            .get(vector)
            .is_some_and(|line| line.pending)
    }

    /// How many interrupts of kind `index` there are, and what can be done with them.
    pub fn count(&self, index: u32) -> Option<(u32, u32)> {
        let state = self.lock();
        Some(match index {
            irq::INTX => (1, irq::EVENTFD | irq::MASKABLE | irq::AUTOMASKED),
            irq::MSI => (1, irq::EVENTFD | irq::MASKABLE),
            irq::MSIX => (state.vectors.len() as u32, irq::EVENTFD | irq::MASKABLE),
            irq::ERROR => (1, irq::EVENTFD | irq::NO_RESIZE),
            // Nobody asks for the device back: QEMU would unplug it, and a server that stops does not wait for that.
            irq::REQUEST => (0, irq::EVENTFD | irq::NO_RESIZE),
            _ => return None,
        })
    }

    /// What a message asks; `data` and `fds` came with it.
    ///
    /// # Errors
    /// EINVAL for what contradicts itself or the function.
    pub fn change(
        &self,
        request: &SetIrqs,
        data: &[u8],
        fds: Vec<OwnedFd>,
    ) -> Result<Change, Errno> {
        let (count, _) = self.count(request.index).ok_or(Errno::INVAL)?;
        let end = request
            .start
            .checked_add(request.count)
            .ok_or(Errno::INVAL)?;
        if end > count || request.start >= count.max(1) {
            return Err(Errno::INVAL);
        }
        Ok(Change {
            index: request.index,
            lines: request.start as usize..end as usize,
            acts: acts(request, data, fds)?,
        })
    }

    /// Does what a message asks. `asserted` is the level of the pin, which does not change meanwhile: a cause that came
    /// between would be told by nobody.
    pub fn set(&self, change: Change, asserted: bool) {
        let state = &mut *self.lock();
        let lines = state.of(change.index);
        if change.lines.is_empty() {
            // Without lines named, a trigger takes all of them away.
            lines.iter_mut().for_each(|line| *line = Line::default());
            return;
        }
        let Some(lines) = lines.get_mut(change.lines) else {
            return;
        };
        for (line, act) in lines.iter_mut().zip(change.acts) {
            match act {
                None => {}
                Some(Act::Mask) => line.masked = true,
                Some(Act::Unmask) => line.masked = false,
                Some(Act::Trigger) => line.tell(&self.teller),
                Some(Act::Assign(eventfd)) => line.eventfd = eventfd,
            }
            line.retry(&self.teller);
        }
        if change.index == irq::INTX {
            state.pin.pending = false;
            if asserted {
                state.raise_pin(&self.teller);
            }
        }
    }
}

impl State {
    fn new(vectors: usize) -> Self {
        Self {
            pin: Line::default(),
            pin_allowed: true,
            msi: Line::default(),
            vectors: (0..vectors).map(|_| Line::default()).collect(),
            error: Line::default(),
        }
    }

    /// The pin masks itself when it is told.
    fn raise_pin(&mut self, teller: &Teller) {
        if self.pin_allowed && !self.pin.masked && self.pin.eventfd.is_some() {
            self.pin.tell(teller);
            self.pin.masked = true;
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Line> {
        let others = [&mut self.pin, &mut self.msi, &mut self.error];
        others.into_iter().chain(&mut self.vectors)
    }

    fn of(&mut self, index: u32) -> &mut [Line] {
        match index {
            irq::INTX => std::slice::from_mut(&mut self.pin),
            irq::MSI => std::slice::from_mut(&mut self.msi),
            irq::MSIX => &mut self.vectors,
            irq::ERROR => std::slice::from_mut(&mut self.error),
            _ => &mut [],
        }
    }
}

/// What is asked of each line.
fn acts(request: &SetIrqs, data: &[u8], fds: Vec<OwnedFd>) -> Result<Vec<Option<Act>>, Errno> {
    let count = request.count as usize;
    let (kind, action) = (request.flags & irq::DATA, request.flags & irq::ACTION);
    if request.flags & !(irq::DATA | irq::ACTION) != 0 {
        return Err(Errno::INVAL);
    }
    let act = match action {
        irq::MASK => || Act::Mask,
        irq::UNMASK => || Act::Unmask,
        irq::TRIGGER => || Act::Trigger,
        _ => return Err(Errno::INVAL),
    };
    if kind != irq::DATA_EVENTFD && !fds.is_empty() {
        return Err(Errno::INVAL);
    }
    match kind {
        irq::DATA_NONE if count == 0 && action != irq::TRIGGER => Err(Errno::INVAL),
        irq::DATA_NONE => Ok((0..count).map(|_| Some(act())).collect()),
        irq::DATA_BOOL if count > 0 && data.len() >= count => {
            let one = |&flag: &u8| (flag != 0).then(act);
            Ok(data[..count].iter().map(one).collect())
        }
        irq::DATA_EVENTFD if action == irq::TRIGGER && count > 0 => {
            if fds.is_empty() {
                return Ok((0..count).map(|_| Some(Act::Assign(None))).collect());
            }
            if fds.len() != count {
                return Err(Errno::INVAL);
            }
            let assign = |fd| Ok(Some(Act::Assign(Some(eventfd(fd)?))));
            fds.into_iter().map(assign).collect()
        }
        _ => Err(Errno::INVAL),
    }
}

/// Makes sure that a descriptor is an eventfd.
fn eventfd(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let is_eventfd = std::fs::read_link(path).is_ok_and(|link| link.as_os_str() == EVENTFD);
    is_eventfd.then_some(fd).ok_or(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use rustix::event::{EventfdFlags, eventfd as new_eventfd};

    use super::*;

    const ASSIGN: u32 = irq::DATA_EVENTFD | irq::TRIGGER;

    fn event() -> (OwnedFd, File) {
        let fd = new_eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let twin = fd.try_clone().unwrap();
        (fd, twin.into())
    }

    /// How often an eventfd was told since it was last looked at.
    fn told(event: &mut File) -> u64 {
        let mut count = [0; 8];
        match std::io::Read::read(event, &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(_) => 0,
        }
    }

    fn request(index: u32, flags: u32, start: u32, count: u32) -> SetIrqs {
        SetIrqs {
            argsz: SetIrqs::SIZE as u32,
            flags,
            index,
            start,
            count,
        }
    }

    fn set(
        lines: &Lines,
        request: &SetIrqs,
        data: &[u8],
        fds: Vec<OwnedFd>,
        asserted: bool,
    ) -> Result<(), Errno> {
        let change = lines.change(request, data, fds)?;
        lines.set(change, asserted);
        Ok(())
    }

    #[test]
    fn a_vector_goes_to_its_own_eventfd() {
        let lines = Lines::new(4).unwrap();
        let ((a, mut seen_a), (b, mut seen_b)) = (event(), event());
        set(
            &lines,
            &request(irq::MSIX, ASSIGN, 1, 2),
            &[],
            vec![a, b],
            false,
        )
        .unwrap();
        lines.raise(2);
        lines.raise(9);
        assert_eq!((told(&mut seen_a), told(&mut seen_b)), (0, 1));
        set(
            &lines,
            &request(irq::MSIX, ASSIGN, 2, 1),
            &[],
            vec![],
            false,
        )
        .unwrap();
        lines.raise(2);
        assert_eq!(told(&mut seen_b), 0);
        assert!(lines.is_pending(2) && !lines.is_pending(1));
    }

    #[test]
    fn what_is_masked_is_told_when_it_is_unmasked() {
        let lines = Lines::new(2).unwrap();
        let (fd, mut seen) = event();
        set(
            &lines,
            &request(irq::MSIX, ASSIGN, 0, 1),
            &[],
            vec![fd],
            false,
        )
        .unwrap();
        let one = |action| {
            set(
                &lines,
                &request(irq::MSIX, irq::DATA_BOOL | action, 0, 2),
                &[1, 0],
                vec![],
                false,
            )
        };
        one(irq::MASK).unwrap();
        lines.raise(0);
        assert_eq!((told(&mut seen), lines.is_pending(0)), (0, true));
        one(irq::UNMASK).unwrap();
        assert_eq!((told(&mut seen), lines.is_pending(0)), (1, false));
        one(irq::TRIGGER).unwrap();
        assert_eq!(told(&mut seen), 1);
    }

    #[test]
    fn an_interrupt_before_its_eventfd_is_not_lost() {
        let lines = Lines::new(2).unwrap();
        lines.raise(1);
        let (fd, mut seen) = event();
        set(
            &lines,
            &request(irq::MSIX, ASSIGN, 1, 1),
            &[],
            vec![fd],
            false,
        )
        .unwrap();
        assert_eq!(told(&mut seen), 1);
    }

    #[test]
    fn the_pin_masks_itself_and_follows_its_level() {
        let lines = Lines::new(2).unwrap();
        let (fd, mut seen) = event();
        set(
            &lines,
            &request(irq::INTX, ASSIGN, 0, 1),
            &[],
            vec![fd],
            false,
        )
        .unwrap();
        lines.raise(0);
        lines.raise(0);
        assert_eq!(told(&mut seen), 1);
        let unmask = request(irq::INTX, irq::DATA_NONE | irq::UNMASK, 0, 1);
        set(&lines, &unmask, &[], vec![], true).unwrap();
        assert_eq!(told(&mut seen), 1, "still asserted");
        set(&lines, &unmask, &[], vec![], false).unwrap();
        assert_eq!(told(&mut seen), 0);
        lines.allow_pin(false, false);
        lines.raise(0);
        assert_eq!(told(&mut seen), 0);
        lines.allow_pin(true, true);
        assert_eq!(told(&mut seen), 1);
    }

    /// Nonblocking is what both sides' descriptor is, and the other side can change that.
    #[test]
    fn a_full_counter_holds_nobody_up() {
        let fd = new_eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let theirs = fd.try_clone().unwrap();
        let lines = Lines::new(1).unwrap();
        set(
            &lines,
            &request(irq::MSIX, ASSIGN, 0, 1),
            &[],
            vec![fd],
            false,
        )
        .unwrap();
        rustix::fs::fcntl_setfl(&theirs, rustix::fs::OFlags::empty()).unwrap();
        let full = u64::MAX - 1;
        rustix::io::write(&theirs, &full.to_ne_bytes()).unwrap();
        let (done, ends) = std::sync::mpsc::channel();
        // Not joined: if it waits, it does for good.
        std::thread::spawn(move || {
            (0..3).for_each(|_| lines.raise(0));
            _ = done.send(lines.is_pending(0));
        });
        assert_eq!(ends.recv_timeout(Duration::from_secs(60)), Ok(false));
        let mut seen = File::from(theirs);
        assert!(told(&mut seen) >= full);
    }

    #[test]
    fn contradictions_are_refused() {
        let lines = Lines::new(4).unwrap();
        let fds = |count| (0..count).map(|_| event().0).collect::<Vec<_>>();
        let file = || vec![OwnedFd::from(File::open("/dev/null").unwrap())];
        for (request, data, fds) in [
            (request(irq::MSIX, ASSIGN, 3, 2), vec![], fds(2)),
            (request(irq::MSIX, ASSIGN, u32::MAX, 2), vec![], fds(2)),
            (request(irq::MSIX, ASSIGN, 0, 2), vec![], fds(1)),
            (request(irq::MSIX, ASSIGN, 0, 1), vec![], file()),
            (request(irq::ERROR, ASSIGN, 1, 1), vec![], fds(1)),
            (request(irq::REQUEST, ASSIGN, 0, 1), vec![], fds(1)),
            (request(7, ASSIGN, 0, 1), vec![], fds(1)),
            (
                request(irq::INTX, irq::DATA_EVENTFD | irq::UNMASK, 0, 1),
                vec![],
                fds(1),
            ),
            (
                request(irq::INTX, irq::DATA_NONE | irq::MASK, 0, 1),
                vec![],
                fds(1),
            ),
            (request(irq::INTX, irq::DATA_NONE, 0, 1), vec![], fds(0)),
            (
                request(irq::INTX, irq::DATA_BOOL | irq::MASK, 0, 1),
                vec![],
                fds(0),
            ),
            (request(irq::INTX, u32::MAX, 0, 1), vec![1], fds(0)),
        ] {
            let result = set(&lines, &request, &data, fds, false);
            assert_eq!(result, Err(Errno::INVAL), "{request:?}");
        }
    }
}
