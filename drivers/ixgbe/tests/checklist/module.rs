//! An SFP+ module's identification memory on two wires: what an I2C peer does, edge by edge.

/// I2C address of the identification, write direction.
const ADDRESS: u8 = 0xa0;

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    /// Until a start that names this module.
    Idle,
    /// Taking in bits of a byte, so many so far.
    Listen(u8),
    /// Pulling the data wire low for one clock, then listening or talking.
    Acknowledge { then_talk: bool },
    /// Giving out bits of a byte, so many so far.
    Talk(u8),
    /// The master's clock to acknowledge.
    Acknowledged,
}

/// A module in the cage.
pub struct WiredModule {
    memory: [u8; 256],
    phase: Phase,
    taken: u8,
    bytes: u32,
    offset: u8,
    clock: bool,
    data: bool,
}

impl WiredModule {
    /// A module that says this.
    pub fn new(memory: [u8; 256]) -> Self {
        Self {
            memory,
            phase: Phase::Idle,
            taken: 0,
            bytes: 0,
            offset: 0,
            clock: true,
            data: true,
        }
    }

    /// Whether the module lets the data wire go high.
    pub fn lets_data_go(&self) -> bool {
        match self.phase {
            Phase::Acknowledge { .. } => false,
            Phase::Talk(sent) => self.memory[usize::from(self.offset)] >> (7 - sent) & 1 != 0,
            Phase::Idle | Phase::Listen(_) | Phase::Acknowledged => true,
        }
    }

    /// The master drives its wires.
    pub fn drive(&mut self, clock: bool, data: bool) {
        let (was_clock, was_data) = (self.clock, self.data);
        (self.clock, self.data) = (clock, data);
        match (was_clock, clock, was_data, data) {
            (true, true, true, false) => self.start(),
            (true, true, false, true) => self.phase = Phase::Idle,
            (false, true, ..) => self.rise(data),
            (true, false, ..) => self.fall(),
            _ => {}
        }
    }

    fn start(&mut self) {
        self.phase = Phase::Listen(0);
        self.bytes = 0;
    }

    fn rise(&mut self, data: bool) {
        if let Phase::Listen(bits @ 0..8) = self.phase {
            self.taken = self.taken << 1 | u8::from(data);
            self.phase = Phase::Listen(bits + 1);
        }
    }

    fn fall(&mut self) {
        self.phase = match self.phase {
            Phase::Listen(8) => self.byte(),
            Phase::Acknowledge { then_talk: true } => Phase::Talk(0),
            Phase::Acknowledge { then_talk: false } => Phase::Listen(0),
            Phase::Talk(7) => Phase::Acknowledged,
            Phase::Talk(sent) => Phase::Talk(sent + 1),
            Phase::Acknowledged => Phase::Idle,
            other => other,
        };
    }

    fn byte(&mut self) -> Phase {
        self.bytes += 1;
        match self.bytes {
            1 if self.taken & !1 != ADDRESS => return Phase::Idle,
            1 => {}
            _ => self.offset = self.taken,
        }
        Phase::Acknowledge {
            then_talk: self.bytes == 1 && self.taken & 1 != 0,
        }
    }
}
