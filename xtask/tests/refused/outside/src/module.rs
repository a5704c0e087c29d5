//! A module that no root names.
