//! What [`export!`](crate::export!) expands to: the state of the one plugin in a component, and the exports that reach
//! it. A component has one thread, and the host never enters it twice, so a plain cell holds the state.

use std::{cell::RefCell, marker::PhantomData, thread::LocalKey};

use serde::de::DeserializeOwned;

use crate::{
    Handover, Problem,
    bindings::stateful::exports::platform::plugin::{handover, lifecycle},
    settings,
};

/// Implements the generated export traits for the plugin `P`.
#[derive(Debug)]
pub struct Adapter<P>(PhantomData<P>);

/// The plugin of a component, implemented by the export macro.
pub trait Instance: Sized + 'static {
    /// Settings of the plugin.
    type Settings: DeserializeOwned + 'static;
    /// What stays in memory between calls.
    type State: 'static;

    /// Makes the state.
    ///
    /// # Errors
    /// When the plugin refuses the settings.
    fn start(settings: Self::Settings) -> Result<Self::State, Problem>;

    /// Runs the plugin's own test.
    ///
    /// # Errors
    /// When the plugin would not work.
    fn test(state: &mut Self::State) -> Result<(), Problem>;

    /// Where the state is.
    fn cell() -> &'static LocalKey<RefCell<Option<Self::State>>>;

    /// Calls with the state.
    ///
    /// # Errors
    /// When the plugin is not configured.
    fn with<T>(call: impl FnOnce(&mut Self::State) -> T) -> Result<T, Problem> {
        Self::cell().with(|cell| match cell.try_borrow_mut().as_deref_mut() {
            Ok(Some(state)) => Ok(call(state)),
            _ => Err(Problem::new("the plugin was called before `configure`")),
        })
    }
}

fn configure<P: Instance>(text: &str) -> Result<(), Problem> {
    let state = P::start(settings::parse(text)?)?;
    P::cell().with(|cell| match cell.try_borrow_mut().as_deref_mut() {
        Ok(empty @ None) => {
            *empty = Some(state);
            Ok(())
        }
        _ => Err(Problem::new("`configure` was called twice")),
    })
}

fn self_test<P: Instance>() -> Result<(), Problem> {
    P::with(P::test)?
}

impl From<Problem> for lifecycle::Problem {
    fn from(problem: Problem) -> Self {
        let (message, at) = problem.into_parts();
        Self { message, at }
    }
}

impl<P: Instance> lifecycle::Guest for Adapter<P> {
    fn configure(settings: String) -> Result<(), lifecycle::Problem> {
        Ok(configure::<P>(&settings)?)
    }

    fn self_test() -> Result<(), lifecycle::Problem> {
        Ok(self_test::<P>()?)
    }
}

impl<P: Instance<State = P> + Handover> handover::Guest for Adapter<P> {
    fn save() -> Result<Vec<u8>, lifecycle::Problem> {
        Ok(P::with(P::save)??)
    }

    fn load(state: Vec<u8>) -> Result<(), lifecycle::Problem> {
        Ok(P::with(|plugin| plugin.load(&state))??)
    }
}

/// Makes a type the plugin of this crate.
///
/// ```text
/// export!(SLOT TRAIT for TYPE);
/// export!(SLOT TRAIT + Handover for TYPE, mode = "single", grants = ["storage"], settings_schema = "{ ... }");
/// ```
///
/// The slot traits are `auth::Policy`, `router::Policy`, `kv::Store`, `discovery::Registry`, `config::Store`,
/// `config::Validator`, `config::Source`, `sync::Locks`, `db::Store`, `event::Broker`, `event::Filter` and, with the feature `web`, `web::Page`. All options may be left out, their order
/// is fixed: `mode` (`fresh`, `reused` or `single`; the slot's rule otherwise), `grants` that the plugin asks for,
/// and `settings_schema`, a JSON Schema as text (`include_str!` works).
///
/// In a Wasm build it makes the component's exports and the manifest; in a native build, such as a unit test, neither.
#[macro_export]
macro_rules! export {
    (auth::Policy for $plugin:ty $(, $($options:tt)*)?) => {
        $crate::export!(@instance auth, Policy, $plugin, $plugin, |plugin| plugin, |state| state);
        $crate::export!(@component plugin, auth, "auth.policy", $plugin, $($($options)*)?,);
    };
    (router::Policy for $plugin:ty $(, $($options:tt)*)?) => {
        $crate::export!(
            @instance router, Policy, $plugin, $crate::router::Serving<$plugin>,
            |plugin| $crate::router::Serving::new(plugin), |state| state.policy()
        );
        $crate::export!(@component plugin, router, "router.policy", $plugin, $($($options)*)?,);
    };
    (kv::Store for $plugin:ty $(, $($options:tt)*)?) => {
        $crate::export!(@instance kv, Store, $plugin, $plugin, |plugin| plugin, |state| state);
        $crate::export!(@component plugin, kv, "kv.store", $plugin, $($($options)*)?,);
    };
    (kv::Store + Handover for $plugin:ty $(, $($options:tt)*)?) => {
        $crate::export!(@instance kv, Store, $plugin, $plugin, |plugin| plugin, |state| state);
        $crate::export!(@component stateful, kv, "kv.store", $plugin, $($($options)*)?,);
    };
    (discovery::Registry for $plugin:ty $(, $($options:tt)*)?) => {
        $crate::export!(@instance discovery, Registry, $plugin, $plugin, |plugin| plugin, |state| state);
        $crate::export!(@component plugin, discovery, "discovery.registry", $plugin, $($($options)*)?,);
    };
    (discovery::Registry + Handover for $plugin:ty $(, $($options:tt)*)?) => {
        $crate::export!(@instance discovery, Registry, $plugin, $plugin, |plugin| plugin, |state| state);
        $crate::export!(@component stateful, discovery, "discovery.registry", $plugin, $($($options)*)?,);
    };
    (config::Store for $plugin:ty $(, $($options:tt)*)?) => {
        $crate::export!(@instance config, Store, $plugin, $plugin, |plugin| plugin, |state| state);
        $crate::export!(@component plugin, config_store, "config.store", $plugin, $($($options)*)?,);
    };
    (config::Store + Handover for $plugin:ty $(, $($options:tt)*)?) => {
        $crate::export!(@instance config, Store, $plugin, $plugin, |plugin| plugin, |state| state);
        $crate::export!(@component stateful, config_store, "config.store", $plugin, $($($options)*)?,);
    };
    (sync::Locks for $plugin:ty $(, $($options:tt)*)?) => {
        $crate::export!(@instance sync, Locks, $plugin, $plugin, |plugin| plugin, |state| state);
        $crate::export!(@component plugin, sync, "sync.lock", $plugin, $($($options)*)?,);
    };
    (sync::Locks + Handover for $plugin:ty $(, $($options:tt)*)?) => {
        $crate::export!(@instance sync, Locks, $plugin, $plugin, |plugin| plugin, |state| state);
        $crate::export!(@component stateful, sync, "sync.lock", $plugin, $($($options)*)?,);
    };
    (db::Store for $plugin:ty $(, $($options:tt)*)?) => {
        $crate::export!(@instance db, Store, $plugin, $plugin, |plugin| plugin, |state| state);
        $crate::export!(@component plugin, db, "db.store", $plugin, $($($options)*)?,);
    };
    (config::Validator for $plugin:ty $(, $($options:tt)*)?) => {
        $crate::export!(@instance config, Validator, $plugin, $plugin, |plugin| plugin, |state| state);
        $crate::export!(@component plugin, config_validator, "config.validator", $plugin, $($($options)*)?,);
    };
    (config::Source for $plugin:ty $(, $($options:tt)*)?) => {
        $crate::export!(@instance config, Source, $plugin, $plugin, |plugin| plugin, |state| state);
        $crate::export!(@component plugin, config_source, "config.source", $plugin, $($($options)*)?,);
    };
    (event::Broker for $plugin:ty $(, $($options:tt)*)?) => {
        $crate::export!(@instance event, Broker, $plugin, $plugin, |plugin| plugin, |state| state);
        $crate::export!(@component plugin, event_broker, "event.broker", $plugin, $($($options)*)?,);
    };
    (event::Broker + Handover for $plugin:ty $(, $($options:tt)*)?) => {
        $crate::export!(@instance event, Broker, $plugin, $plugin, |plugin| plugin, |state| state);
        $crate::export!(@component stateful, event_broker, "event.broker", $plugin, $($($options)*)?,);
    };
    (event::Filter for $plugin:ty $(, $($options:tt)*)?) => {
        $crate::export!(@instance event, Filter, $plugin, $plugin, |plugin| plugin, |state| state);
        $crate::export!(@component plugin, event_filter, "event.filter", $plugin, $($($options)*)?,);
    };
    (web::Page for $plugin:ty $(, $($options:tt)*)?) => {
        $crate::export!(@instance web, Page, $plugin, $plugin, |plugin| plugin, |state| state);
        $crate::export!(@component plugin, web, "web.page", $plugin, $($($options)*)?,);
    };
    (@instance $slot:ident, $trait:ident, $plugin:ty, $state:ty, |$made:ident| $wrap:expr, |$held:ident| $unwrap:expr) => {
        // In a native build nothing else makes the plugin, and the compiler would call it dead.
        const _: fn(
            <$plugin as $crate::$slot::$trait>::Settings,
        ) -> ::std::result::Result<$plugin, $crate::Problem> = <$plugin as $crate::$slot::$trait>::configure;

        impl $crate::export::Instance for $plugin {
            type Settings = <Self as $crate::$slot::$trait>::Settings;
            type State = $state;

            fn start(settings: Self::Settings) -> ::std::result::Result<Self::State, $crate::Problem> {
                let $made = <Self as $crate::$slot::$trait>::configure(settings)?;
                ::std::result::Result::Ok($wrap)
            }

            fn test($held: &mut Self::State) -> ::std::result::Result<(), $crate::Problem> {
                <Self as $crate::$slot::$trait>::self_test($unwrap)
            }

            fn cell() -> &'static ::std::thread::LocalKey<::std::cell::RefCell<::std::option::Option<Self::State>>> {
                ::std::thread_local! {
                    static CELL: ::std::cell::RefCell<::std::option::Option<$state>> =
                        const { ::std::cell::RefCell::new(::std::option::Option::None) };
                }
                &CELL
            }
        }
    };
    (@lifecycle plugin) => {
        $crate::bindings::stateful::export_lifecycle!(
            Exported with_types_in $crate::bindings::stateful::exports::platform::plugin::lifecycle
        );
    };
    (@lifecycle stateful) => {
        $crate::bindings::stateful::export!(Exported with_types_in $crate::bindings::stateful);
    };
    (
        @component $world:ident, $slot:ident, $name:literal, $plugin:ty,
        $(mode = $mode:literal,)? $(grants = [$($grant:literal),* $(,)?],)? $(settings_schema = $schema:expr,)? $(,)?
    ) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::manifest::Member;

            type Exported = $crate::export::Adapter<$plugin>;
            $crate::export!(@lifecycle $world);
            $crate::bindings::$slot::export!(Exported with_types_in $crate::bindings::$slot);

            const MEMBERS: &[Member] = &[
                Member::Text("name", env!("CARGO_PKG_NAME")),
                Member::Text("version", env!("CARGO_PKG_VERSION")),
                Member::Text("description", env!("CARGO_PKG_DESCRIPTION")),
                Member::Text("license", env!("CARGO_PKG_LICENSE")),
                Member::Text("source", env!("CARGO_PKG_REPOSITORY")),
                Member::Text("slot", $name),
                $(Member::Text("mode", $mode),)?
                $(Member::List("grants", &[$($grant),*]),)?
                $(Member::Json("settings_schema", $schema),)?
            ];
            #[used]
            #[unsafe(link_section = "platform:manifest")]
            static MANIFEST: [u8; $crate::manifest::length(MEMBERS)] = $crate::manifest::encode(MEMBERS);
        };
    };
}
