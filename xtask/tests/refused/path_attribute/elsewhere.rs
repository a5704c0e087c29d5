pub unsafe fn elsewhere() {}
