//! A domain that fails on request, in every way there is from safe code.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use sumac_fragile::fail;
use sumac_interface::domain::{Block, Crashy, CreateCrashy, Failure};
use sumac_interface::{Object, RpcError, RpcResult};
use sumac_rref::RRef;

/// What this domain offers.
pub type Root = dyn Crashy;

/// Makes the root object.
pub fn root() -> Object<Root> {
    Object::from_box(Box::new(Fragile::default()))
}

/// What fails.
#[derive(Default)]
struct Fragile {
    kept: VecDeque<RRef<Block>>,
    memory: Vec<Vec<u8>>,
    met: Option<Object<dyn Crashy>>,
    maker: Option<Object<dyn CreateCrashy>>,
}

impl Crashy for Fragile {
    fn nothing(&self) -> RpcResult<()> {
        Ok(())
    }

    fn echo(&self, value: u64) -> RpcResult<u64> {
        Ok(value)
    }

    fn echo_rref(&mut self, object: RRef<Block>) -> RpcResult<RRef<Block>> {
        Ok(object)
    }

    fn sum(&self, object: &RRef<Block>) -> RpcResult<u64> {
        Ok(object.iter().fold(0, |sum, n| sum.wrapping_add(*n)))
    }

    fn keep(&mut self, object: RRef<Block>) -> RpcResult<()> {
        self.kept.push_back(object);
        Ok(())
    }

    fn give_back(&mut self) -> RpcResult<Option<RRef<Block>>> {
        Ok(self.kept.pop_front())
    }

    fn allocate(&mut self, bytes: u64) -> RpcResult<()> {
        let bytes = usize::try_from(bytes).map_err(|_| RpcError::Refused)?;
        self.memory.push(alloc::vec![1; bytes]);
        Ok(())
    }

    fn fail(&mut self, how: Failure) -> RpcResult<()> {
        fail(how)
    }

    fn fail_with(&mut self, how: Failure, object: RRef<Block>) -> RpcResult<RRef<Block>> {
        fail(how)?;
        Ok(object)
    }

    fn fail_borrowing(&mut self, how: Failure, object: &RRef<Block>) -> RpcResult<u64> {
        fail(how)?;
        self.sum(object)
    }

    fn echo_object(&mut self, object: Object<dyn Crashy>) -> RpcResult<Object<dyn Crashy>> {
        Ok(object)
    }

    fn another(&mut self) -> RpcResult<Object<dyn Crashy>> {
        Ok(root())
    }

    fn meet(&mut self, other: Option<Object<dyn Crashy>>) -> RpcResult<()> {
        self.met = other;
        Ok(())
    }

    fn found(&mut self, maker: Option<Object<dyn CreateCrashy>>) -> RpcResult<()> {
        self.maker = maker;
        Ok(())
    }

    fn spawn(&mut self, rounds: u32, how: Option<Failure>) -> RpcResult<u32> {
        let maker = self.maker.as_mut().ok_or(RpcError::Refused)?;
        let mut good = 0;
        for round in 0..rounds {
            let (number, mut child) = maker.create()?;
            let value = u64::from(round);
            let lives = child.echo(value) == Ok(value);
            let failed = how.is_none_or(|how| matches!(child.fail(how), Err(RpcError::Dead(_))));
            let dead = how.is_none() || child.echo(value).is_err();
            drop(child);
            let ended = maker.end(number)?;
            good += u32::from(lives && failed && dead && ended);
        }
        Ok(good)
    }

    fn call_back(&mut self, depth: u32, how: Option<Failure>) -> RpcResult<u32> {
        match (depth.checked_sub(1), &mut self.met) {
            (None, _) => {
                how.map_or(Ok(()), fail)?;
                Ok(0)
            }
            (Some(left), Some(met)) => Ok(met.call_back(left, how)? + 1),
            (Some(_), None) => Err(RpcError::Refused),
        }
    }

    fn call_through(
        &mut self,
        mut other: Object<dyn Crashy>,
        depth: u32,
        how: Option<Failure>,
    ) -> RpcResult<u32> {
        let Some(left) = depth.checked_sub(1) else {
            how.map_or(Ok(()), fail)?;
            return Ok(0);
        };
        Ok(other.call_through(root(), left, how)? + 1)
    }
}
