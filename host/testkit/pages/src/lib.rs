//! Pages for tests of the host: each example of this package is one. What they do is in `platform-testkit-guests`.
