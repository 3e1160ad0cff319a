//! The kernel proper out of a bzImage, for PVH guests: Debian ships bzImages only, and unpacking is no work for a
//! hypervisor. Linux "The Linux/x86 Boot Protocol", fields `payload_offset` and `payload_length`.

use crate::exec::say;
use crate::{guests::iso::hex, paths};
use anyhow::{Context, Result, bail, ensure};
use machine::pvh::{PvhError, elf::Elf};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest kernel that is unpacked.
const MOST: usize = 512 << 20;
/// LZ4's old format: its magic number, and what a block has at most when unpacked.
const LZ4_LEGACY: u32 = 0x184c_2102;
const LZ4_BLOCK: usize = 8 << 20;

/// A file that holds the ELF kernel: the given one, or what is in the given bzImage.
pub fn of(kernel: &Path) -> Result<PathBuf> {
    let bytes = fs::read(kernel).with_context(|| format!("cannot read {}", kernel.display()))?;
    if !is_bzimage(&bytes) {
        return Ok(kernel.to_owned());
    }
    let dir = paths::guests().join("vmlinux");
    fs::create_dir_all(&dir)?;
    let sum = hex(&Sha256::digest(&bytes));
    let name = kernel.file_name().unwrap_or_default().to_string_lossy().replacen("vmlinuz", "", 1);
    let name = format!("vmlinux-{}-{}", name.trim_matches('-'), &sum[..16]);
    let place = dir.join(name);
    if !place.exists() {
        say(format!("unpacking the kernel in {}", paths::show(kernel)));
        let elf = payload(&bytes).with_context(|| format!("{}", kernel.display()))?;
        // Whoever looks meanwhile must not see half of it.
        let half = tempfile::NamedTempFile::new_in(&dir)?;
        fs::write(half.path(), elf)?;
        half.persist(&place)?;
    }
    Ok(place)
}

/// Checks that a file can start as a PVH guest's kernel, as far as that shows before it is unpacked.
pub fn check(kernel: &Path) -> Result<()> {
    let bytes = fs::read(kernel)?;
    match Elf::parse(&bytes) {
        Ok(_) => Ok(()),
        Err(PvhError::BzImage) => packed(&bytes).map(|_| ()),
        Err(error) => bail!("{error}"),
    }
}

fn is_bzimage(bytes: &[u8]) -> bool {
    bytes.get(0x202..0x206) == Some(b"HdrS")
}

/// The packed kernel in a bzImage.
fn packed(image: &[u8]) -> Result<&[u8]> {
    let number = |at: usize, width: usize| -> Result<usize> {
        let bytes = image.get(at..at + width).context("the kernel is cut short")?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    };
    if number(0x206, 2)? < 0x208 {
        bail!(
            "its boot protocol is older than 2.08 (Linux 2.6.26): it does not say where the kernel is"
        );
    }
    let sectors = match number(0x1f1, 1)? {
        0 => 4,
        sectors => sectors,
    };
    let start = (sectors + 1) * 512 + number(0x248, 4)?;
    let packed = start.checked_add(number(0x24c, 4)?).and_then(|end| image.get(start..end));
    packed.context("the kernel is cut short")
}

/// The unpacked kernel in a bzImage.
fn payload(image: &[u8]) -> Result<Vec<u8>> {
    let packed = packed(image)?;
    // Behind all but gzip's data stands their size once more; readers stop before it.
    match packed {
        [0x1f, 0x8b, ..] => read(flate2::read::GzDecoder::new(packed)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => read(lzma_rust2::XzReader::new(packed, false)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            read(ruzstd::decoding::StreamingDecoder::new(packed).context("bad zstd data")?)
        }
        [0x02, 0x21, 0x4c, 0x18, ..] => lz4(packed),
        [0x7f, b'E', b'L', b'F', ..] => Ok(packed.to_vec()),
        [b'B', b'Z', b'h', ..] => bail!("it is packed by bzip2; unpack it and give vmlinux"),
        [0x89, b'L', b'Z', b'O', ..] => bail!("it is packed by LZO; unpack it and give vmlinux"),
        _ => bail!("it is packed in a way that is not known; unpack it and give vmlinux"),
    }
}

fn read(reader: impl Read) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(MOST as u64 + 1).read_to_end(&mut out).context("the packed kernel is damaged")?;
    ensure!(out.len() <= MOST, "it is larger than {} MiB when unpacked", MOST >> 20);
    Ok(out)
}

/// LZ4's old format, which `lz4 -l` writes: blocks behind their sizes, and no end mark.
fn lz4(packed: &[u8]) -> Result<Vec<u8>> {
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(packed.get(at..at + 4)?.try_into().ok()?))
    };
    ensure!(word(0) == Some(LZ4_LEGACY), "bad LZ4 data");
    let (mut at, mut out) = (4, Vec::new());
    let mut block = vec![0; LZ4_BLOCK];
    while let Some(size) = word(at) {
        let data = at + 4;
        let Some(bytes) = packed.get(data..data + size as usize) else { break };
        if bytes.is_empty() {
            break;
        }
        let len = lz4_flex::block::decompress_into(bytes, &mut block)
            .context("the packed kernel is damaged")?;
        out.extend_from_slice(&block[..len]);
        ensure!(out.len() <= MOST, "it is larger than {} MiB when unpacked", MOST >> 20);
        at = data + bytes.len();
    }
    // What is left is the size of it all.
    let told = word(at).context("the packed kernel is cut short")?;
    ensure!(told as usize == out.len(), "the packed kernel is damaged");
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A bzImage around packed bytes.
    fn bzimage(packed: &[u8], protocol: u16) -> Vec<u8> {
        let mut image = vec![0; 1024 + 16];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&protocol.to_le_bytes());
        image[0x248] = 16;
        image[0x24c..0x250].copy_from_slice(&(packed.len() as u32).to_le_bytes());
        image.extend_from_slice(packed);
        image.extend_from_slice(b"what follows");
        image
    }

    /// What the kernel's build appends, packed by the usual tools: `printf %06000d 0 | xz --check=crc32 --x86 --lzma2`, `zstd`.
    const XZ: &[u8] = include_bytes!("testdata/zeros.xz");
    const ZSTD: &[u8] = include_bytes!("testdata/zeros.zst");

    #[test]
    fn every_packing_that_distributions_use_is_unpacked() {
        let plain = [b'0'; 6000];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&plain).unwrap();
        // One literal, a match of 5,994 bytes behind it, and the five literals that end a block.
        let mut lz4 = vec![0x1f, b'0', 1, 0];
        let mut left = 5994 - 19;
        while left >= 255 {
            lz4.push(255);
            left -= 255;
        }
        lz4.extend_from_slice(&[left as u8, 0x50, b'0', b'0', b'0', b'0', b'0']);
        let mut legacy = LZ4_LEGACY.to_le_bytes().to_vec();
        legacy.extend_from_slice(&(lz4.len() as u32).to_le_bytes());
        legacy.extend_from_slice(&lz4);
        let sized = |packed: &[u8]| [packed, &6000u32.to_le_bytes()].concat();
        for packed in [gzip.finish().unwrap(), sized(&legacy), sized(XZ), sized(ZSTD)] {
            let unpacked = payload(&bzimage(&packed, 0x20f)).unwrap();
            assert!(unpacked == plain, "{:x?}", &packed[..4]);
        }
        legacy.pop();
        assert!(payload(&bzimage(&sized(&legacy), 0x20f)).is_err());
    }

    #[test]
    fn what_cannot_be_unpacked_says_why() {
        let why = |image: &[u8]| format!("{:#}", payload(image).unwrap_err());
        assert!(why(&bzimage(b"BZh9", 0x20f)).contains("bzip2"));
        assert!(why(&bzimage(b"what?", 0x20f)).contains("not known"));
        assert!(why(&bzimage(b"", 0x207)).contains("older than 2.08"));
        assert!(why(&bzimage(&XZ[..40], 0x20f)).contains("damaged"));
        let image = bzimage(&[0; 100], 0x20f);
        assert!(why(&image[..1100]).contains("cut short"));
    }

    #[test]
    fn an_elf_file_is_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("vmlinux");
        fs::write(&file, b"\x7fELF").unwrap();
        assert_eq!(of(&file).unwrap(), file);
        assert!(check(&file).unwrap_err().to_string().contains("no ELF executable"));
    }
}
