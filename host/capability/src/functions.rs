//! Declares the functions of an interface as types. Every world starts with the four of `platform:plugin`.

/// Places of `configure`, `self-test`, `save` and `load` in every world's function table.
pub(crate) const LIFECYCLE: usize = 4;

macro_rules! functions {
    ($interface:literal from $first:expr; $($(#[$doc:meta])* $name:ident = $wit:literal ($($param:ty),*) -> $result:ty;)+) => {
        enum FunctionNumber { $($name),+ }
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub enum $name {}
            impl platform_runtime::Function for $name {
                const INDEX: usize = $first + FunctionNumber::$name as usize;
                const INTERFACE: &'static str = $interface;
                const NAME: &'static str = $wit;
                type Params<'a> = ($($param,)*);
                type Results = $result;
            }
        )+
    };
}
pub(crate) use functions;
