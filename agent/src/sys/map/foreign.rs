//! Maps of another build, whose values are as long as it made them.

use std::path::Path;

use aya::maps::{HashMap, Map, MapData, MapError};

use super::{List, Raw, TableError};

/// What errors call such a map; the path is in the message around them.
const NAME: &str = "a map of another build";

/// Lengths that values may have: eight bytes are their alignment, and none is longer.
const STEP: u32 = 8;

/// Size of the keys and of the values of a pinned map.
///
/// # Errors
/// Where it is not there.
pub fn sizes(path: &Path) -> Result<(u32, u32), TableError> {
    let info = MapData::from_pin(path).and_then(|data| data.info());
    let info = info.map_err(|source| failed("open", source))?;
    Ok((info.key_size(), info.value_size()))
}

/// Every entry of a pinned LRU hash with values of any length up to 256 bytes.
///
/// # Errors
/// Where it is not there, or has other keys.
pub fn entries<K: bytemuck::Pod>(path: &Path) -> Result<Vec<(K, Vec<u8>)>, TableError> {
    let (_, size) = sizes(path)?;
    macro_rules! of_length {
        ($($steps:literal)+) => {
            match size {
                $(size if size == $steps * STEP => read::<K, { $steps * STEP as usize }>(path),)+
                _ => Err(MapError::InvalidValueSize { size: 0, expected: size as usize }),
            }
        };
    }
    of_length!(8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32)
        .map_err(|source| failed("read", source))
}

/// The elements of a pinned array.
///
/// # Errors
/// Where it is not there, or has other elements.
pub fn list<V: bytemuck::Pod>(path: &Path, length: u32) -> Result<Vec<V>, TableError> {
    let list = List::<V>::at(path, NAME)?;
    (0..length).map(|index| list.get(index)).collect()
}

fn read<K: bytemuck::Pod, const N: usize>(path: &Path) -> Result<Vec<(K, Vec<u8>)>, MapError> {
    let data = MapData::from_pin(path)?;
    let map: HashMap<MapData, Raw<K>, [u8; N]> = HashMap::try_from(Map::LruHashMap(data))?;
    let owned = |entry: Result<(Raw<K>, [u8; N]), MapError>| {
        entry.map(|(Raw(key), value)| (key, value.to_vec()))
    };
    map.iter().map(owned).collect()
}

fn failed(operation: &'static str, source: MapError) -> TableError {
    TableError::Kernel {
        map: NAME,
        operation,
        source,
    }
}
