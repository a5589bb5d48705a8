//! Serialization with serde: the stable form of each type, separate from its fields in memory,
//! which may change.
//!
//! Each form is a private type with serde's derives. A value is read by building the form and then
//! parsing it, so that no invalid value can enter this way. The forms are documented in
//! [`guide::serialized`](crate::guide::serialized), and tested in `tests/serde_forms.rs`.

#![allow(
    clippy::infallible_try_from,
    reason = "all forms are read in one way, those that cannot fail as well"
)]

#[cfg(feature = "alloc")]
mod map;
#[cfg(feature = "alloc")]
mod owned;
mod small;
mod status;

/// Serializes and deserializes a type through its form. A form is made from a reference, and parsed
/// by `TryFrom`.
macro_rules! through {
    ($($form:ty => $type:ty $(, $parameter:ident)?;)*) => {$(
        impl$(<$parameter: serde::Serialize + Clone>)? serde::Serialize for $type {
            fn serialize<Z: serde::Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
                <$form>::from(self).serialize(serializer)
            }
        }

        impl<'de $(, $parameter: serde::Deserialize<'de>)?> serde::Deserialize<'de> for $type {
            fn deserialize<Z: serde::Deserializer<'de>>(deserializer: Z) -> Result<Self, Z::Error> {
                Self::try_from(<$form>::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    )*};
}
use through;
