//! The multiboot2 information structure, as GRUB fills it on BIOS and on UEFI machines.

use multiboot2::{BootInformation, FramebufferType, MemoryAreaType};

use super::{AcpiRoot, Boot, BootError, FrameBufferInfo, Loader, RegionKind, Screen, cut};

/// Copies what we need out of `info`.
///
/// # Errors
/// [`BootError`] where it holds no memory map or more than we keep.
pub fn parse(info: &BootInformation<'_>) -> Result<Boot, BootError> {
    let mut boot = Boot::new(Loader::Multiboot2);
    if let Some(line) = info.command_line_tag() {
        boot.command_line = cut(line.cmdline().unwrap_or(""));
    }
    let map = info.memory_map_tag().ok_or(BootError::NoMemoryMap)?;
    for area in map.memory_areas() {
        let kind = match area.typ() {
            MemoryAreaType::Available => RegionKind::Usable,
            MemoryAreaType::AcpiAvailable => RegionKind::Acpi,
            _ => RegionKind::Reserved,
        };
        boot.add_region(area.start_address(), area.size(), kind)?;
    }
    for module in info.module_tags() {
        let (start, end) = (module.start_address(), module.end_address());
        boot.add_module(start.into(), end.into(), module.cmdline().unwrap_or(""))?;
    }
    // The tags hold copies of the RSDP, of which only the root table's address is of use.
    boot.acpi = match (info.rsdp_v2_tag(), info.rsdp_v1_tag()) {
        (Some(v2), _) if v2.xsdt_address() != 0 => AcpiRoot::Xsdt(v2.xsdt_address() as u64),
        (_, Some(v1)) => AcpiRoot::Rsdt(v1.rsdt_address() as u64),
        _ => AcpiRoot::Search,
    };
    if let Some(Ok(screen)) = info.framebuffer_tag() {
        boot.screen = match screen.buffer_type() {
            Ok(FramebufferType::Text) => Screen::Text(screen.width(), screen.height()),
            Ok(FramebufferType::RGB { red, green, blue }) => Screen::Pixels(FrameBufferInfo {
                address: screen.address(),
                pitch: screen.pitch(),
                width: screen.width(),
                height: screen.height(),
                bits_per_pixel: screen.bpp(),
                shifts: [red.position, green.position, blue.position],
                sizes: [red.size, green.size, blue.size],
            }),
            _ => Screen::Unknown,
        };
    }
    Ok(boot)
}
