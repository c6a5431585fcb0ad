//! Shim.
use crate::ids::NextHopId;
/// Shim.
#[derive(Default)]
pub struct Fib<A>(std::marker::PhantomData<A>);
/// Shim.
pub type Fib4 = Fib<u32>;
/// Shim.
pub type Fib6 = Fib<u128>;
impl<A> Fib<A> {
    /// Shim.
    pub fn lookup_batch(&self, _: &[A], _: &mut [NextHopId]) {}
}
