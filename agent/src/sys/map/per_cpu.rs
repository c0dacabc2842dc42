//! Pinned maps with a value for each CPU.

use std::path::Path;

use aya::maps::{Map, MapData, MapError, PerCpuArray, PerCpuHashMap};

use super::{Raw, TableError, is};

/// Sums over all CPUs of the elements of the pinned per-CPU array `name`.
///
/// # Errors
/// Where it is not there, or has another layout.
pub fn per_cpu_sums(pins: &Path, name: &'static str) -> Result<Vec<u64>, TableError> {
    let failed = |source| TableError::Kernel {
        map: name,
        operation: "read",
        source,
    };
    let data = MapData::from_pin(pins.join(name)).map_err(failed)?;
    let map: PerCpuArray<MapData, u64> =
        PerCpuArray::try_from(Map::PerCpuArray(data)).map_err(failed)?;
    map.iter()
        .map(|values| Ok(values.map_err(failed)?.iter().sum()))
        .collect()
}

/// Sums over all CPUs of the values, made of `N` counters each, of the pinned per-CPU hash `name`.
///
/// # Errors
/// Where it is not there, or has another layout.
pub fn per_cpu_sums_by_key<K: bytemuck::Pod, const N: usize>(
    pins: &Path,
    name: &'static str,
) -> Result<Vec<(K, [u64; N])>, TableError> {
    let failed = |source| TableError::Kernel {
        map: name,
        operation: "read",
        source,
    };
    let data = MapData::from_pin(pins.join(name)).map_err(failed)?;
    let map: PerCpuHashMap<MapData, Raw<K>, [u64; N]> =
        PerCpuHashMap::try_from(Map::PerCpuHashMap(data)).map_err(failed)?;
    let sum = |entry: Result<(Raw<K>, aya::maps::PerCpuValues<[u64; N]>), MapError>| {
        let (Raw(key), values) = entry.map_err(failed)?;
        let mut sums = [0_u64; N];
        for of_cpu in values.iter() {
            for (sum, value) in sums.iter_mut().zip(of_cpu) {
                *sum = sum.wrapping_add(*value);
            }
        }
        Ok((key, sums))
    };
    map.iter().map(sum).collect()
}

/// Deletes the entries of `keys`, where they are there, from the pinned per-CPU hash `name`.
///
/// # Errors
/// Where it is not there, has another layout, or the kernel refuses.
pub fn per_cpu_delete<K: bytemuck::Pod, const N: usize>(
    pins: &Path,
    name: &'static str,
    keys: &[K],
) -> Result<(), TableError> {
    let failed = |source| TableError::Kernel {
        map: name,
        operation: "delete",
        source,
    };
    let data = MapData::from_pin(pins.join(name)).map_err(failed)?;
    let mut map: PerCpuHashMap<MapData, Raw<K>, [u64; N]> =
        PerCpuHashMap::try_from(Map::PerCpuHashMap(data)).map_err(failed)?;
    for key in keys {
        match map.remove(&Raw(*key)) {
            Err(source)
                if !is(&source, rustix::io::Errno::NOENT)
                    && !matches!(source, MapError::KeyNotFound) =>
            {
                return Err(failed(source));
            }
            _ => {}
        }
    }
    Ok(())
}
