//! A registry on loopback for tests.
