//! Instance types by name: how many GPUs one has and how much memory a GPU has.
//!
//! What a node must prove before it is fit is what its type declares; a type that is not listed
//! takes the inventory's word for it.

use wharfage_shared::capacity::Sku;

/// One instance type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceType {
    /// Its name in lower case.
    pub name: &'static str,
    /// The GPU's name for people.
    pub gpu: &'static str,
    /// GPUs of one instance.
    pub gpus: u8,
    /// Memory of one GPU in GB as it is sold.
    pub memory_gb: u16,
}

const fn of(name: &'static str, gpu: &'static str, gpus: u8, memory_gb: u16) -> InstanceType {
    InstanceType { name, gpu, gpus, memory_gb }
}

/// Every instance type that is known by name.
pub const INSTANCE_TYPES: [InstanceType; 14] = [
    of("b200-8x", "HGX B200", 8, 180),
    of("b300-8x", "HGX B300", 8, 270),
    of("gb200-4x", "GB200 NVL72", 4, 186),
    of("gb300-4x", "GB300 NVL72", 4, 279),
    of("gb300-4x-e", "GB300 NVL72", 4, 279),
    of("gd-1xgh200", "GH200", 1, 96),
    of("gd-8xa100-i128", "HGX A100", 8, 80),
    of("gd-8xh100ib-i128", "HGX H100", 8, 80),
    of("gd-8xh200ib-i128", "HGX H200", 8, 141),
    of("gd-8xl40-i128", "L40", 8, 48),
    of("gd-8xl40s-i128", "L40S", 8, 48),
    of("rtxp6000-8x", "RTX PRO 6000", 8, 96),
    of("rtxp6000-8x-v2", "RTX PRO 6000", 8, 96),
    of("verarubin-4x-e", "Vera Rubin NVL72", 4, 288),
];

/// The instance type of this name, if it is listed.
pub fn instance_type(sku: &Sku) -> Option<&'static InstanceType> {
    INSTANCE_TYPES.iter().find(|listed| listed.name == sku.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_type_is_found_whatever_its_case() {
        assert_eq!(instance_type(&Sku::new("GD-8xH100ib-i128")).map(|listed| listed.gpus), Some(8));
        assert_eq!(instance_type(&Sku::new("gd-9xh100")), None);
    }
}
