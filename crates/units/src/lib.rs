//! Exact amounts: what Kubernetes manifests, clouds and metrics count in.
//!
//! | type | counts | unit |
//! |---|---|---|
//! | [`Quantity`] | any Kubernetes quantity, exactly | a billionth |
//! | [`Amount`] | one resource of one object | millicores for cpu, whole units for everything else |
//! | [`ResourceList`] | several resources by name | as [`Amount`] |
//! | [`UsdMicrosPerHour`] | a price | a millionth of a US dollar per hour |
//! | [`Milli`] | a metric value | a thousandth |
//!
//! Everything is an integer. Conversions that lose precision say in their name which way they round, and those that can
//! leave the range return an error. Nothing here is ever NaN.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

mod amount;
mod milli;
mod money;
mod quantity;
mod resources;

pub use crate::{
    amount::Amount,
    milli::{Milli, MilliError},
    money::UsdMicrosPerHour,
    quantity::{Quantity, QuantityError},
    resources::{Excess, ResourceList, ResourceName},
};
