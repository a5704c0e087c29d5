//! The ports' links, as they were seen last: looked at now and then, or when their interrupts say so.

use std::sync::Arc;
use std::time::Duration;

use sumac_interface::net::{Link, Net, NetError};
use sumac_linux::Bell;

/// A port's link.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// As it was last.
    pub link: Link,
    /// Times it changed, or flapped, since the first look.
    pub changes: u64,
}

/// The links of all ports.
pub struct Links {
    /// Rung by the links' vectors; none where there are no interrupts, or no vectors left.
    bell: Option<Arc<Bell>>,
    seen: Vec<Option<Seen>>,
}

impl Links {
    /// Those of so many ports, none seen yet.
    pub fn new(ports: usize, bell: Option<Arc<Bell>>) -> Self {
        Self {
            bell,
            seen: vec![None; ports],
        }
    }

    /// Whether a link may have changed: an interrupt happened, or it was not looked at yet.
    pub fn rung(&self) -> bool {
        let rung = |bell: &Arc<Bell>| bell.wait(Duration::ZERO);
        self.bell.as_ref().is_some_and(rung) || self.seen.iter().any(Option::is_none)
    }

    /// Whether interrupts say when a link changes; else it has to be looked at.
    pub fn have_interrupts(&self) -> bool {
        self.bell.is_some()
    }

    /// Looks at a port's link.
    ///
    /// # Errors
    /// [`NetError`] when its device does not answer.
    pub fn look(&mut self, index: usize, port: &mut impl Net) -> Result<(), NetError> {
        let change = port.link_change()?;
        let Some(seen) = self.seen.get_mut(index) else {
            return Ok(());
        };
        match seen {
            Some(seen) => {
                if let Some(link) = change {
                    seen.link = link;
                    seen.changes += 1;
                }
            }
            // What it was before the first look is no change that anybody saw.
            None => {
                *seen = Some(Seen {
                    link: port.link(),
                    changes: 0,
                });
            }
        }
        Ok(())
    }

    /// A port's device is gone, and with it the link.
    pub fn lose(&mut self, index: usize) {
        if let Some(Some(seen)) = self.seen.get_mut(index) {
            seen.link = Link::default();
        }
    }

    /// A port's link as it was last seen.
    pub fn of(&self, index: usize) -> Seen {
        self.seen.get(index).copied().flatten().unwrap_or_default()
    }
}
