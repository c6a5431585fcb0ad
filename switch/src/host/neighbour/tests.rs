//! Tests of the neighbour state machine.
