//! Tests of the frame functions.
