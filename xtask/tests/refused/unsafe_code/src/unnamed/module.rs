//! A file that no module names.

unsafe fn function() {} //~ unsafe-code
