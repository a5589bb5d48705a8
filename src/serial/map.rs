//! The form of an [`ExtentMap`]: its range and its extents. It is written extent by extent, so that
//! a large map is not built a second time.

use alloc::vec::Vec;
use core::hash::Hash;

use serde::de::Error;
use serde::ser::{SerializeSeq, SerializeStruct};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Extent;
use crate::map::{ExtentMap, MapSlice};
use crate::stream::from_iter;

impl<T: Serialize + Copy> Serialize for ExtentMap<T> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        let mut form = serializer.serialize_struct("ExtentMap", 3)?;
        form.serialize_field("start", &self.range().start)?;
        form.serialize_field("end", &self.range().end)?;
        form.serialize_field("extents", &ExtentList(self.as_slice()))?;
        form.end()
    }
}

struct ExtentList<'a, T>(MapSlice<'a, T>);

impl<T: Serialize + Copy> Serialize for ExtentList<'_, T> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        // formats that do not describe themselves (postcard, bincode) write the length first; gaps
        // are no elements
        let mut list = serializer.serialize_seq(Some(self.0.extents().count()))?;
        for extent in self.0 {
            list.serialize_element(&extent)?;
        }
        list.end()
    }
}

#[derive(Deserialize)]
#[serde(rename = "ExtentMap", deny_unknown_fields)]
struct MapForm<T> {
    start: u64,
    end: u64,
    extents: Vec<Extent<T>>,
}

impl<'de, T: Deserialize<'de> + Copy + Eq + Hash> Deserialize<'de> for ExtentMap<T> {
    fn deserialize<Z: Deserializer<'de>>(deserializer: Z) -> Result<Self, Z::Error> {
        let MapForm { start, end, extents } = MapForm::deserialize(deserializer)?;
        let length =
            end.checked_sub(start).ok_or_else(|| Z::Error::custom("a map that ends before it starts"))?;
        if length > 0 {
            // the range of a map must be valid as that of an extent
            Extent::new(start, length, ()).map_err(Z::Error::custom)?;
        }
        Self::within(from_iter(extents), start..end).map_err(Z::Error::custom)
    }
}
