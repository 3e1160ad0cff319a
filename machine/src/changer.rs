//! Media that a person takes out of CD and floppy drives, and puts into them, while the guest runs.

use crate::Machine;
use crate::disks::{Drive, FLOPPY, SLOTS};
use devmodel::atapi::Cdrom;
use devmodel::blk::Media;
use devmodel::ide::Unit;

/// Why a medium cannot be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// There is no drive in this place.
    NoDrive,
    /// It is a hard disk.
    Fixed,
    /// The guest has locked the door. It was told that someone wants it open.
    Locked,
    /// The floppy's format is none that the drive reads.
    Format,
}

impl Machine {
    /// Takes the medium out of the drive in `slot`, if there is one, and puts `media` in. `swap` exchanges what is
    /// behind the drive, while the guest can start nothing on it. `force`: also through a locked door.
    ///
    /// The guest sees it as on a PC: a CD drive reports unit attention and a media event, a floppy drive its change
    /// line.
    ///
    /// # Errors
    /// [`ChangeError`]; then nothing was changed.
    pub fn change_medium(
        &self,
        slot: usize,
        media: Option<&Media>,
        force: bool,
        swap: impl FnOnce(),
    ) -> Result<(), ChangeError> {
        let mut guard = self.board.lock();
        let board = &mut *guard;
        let mut drives = self.drives.lock();
        match drives.get(slot) {
            None => return Err(ChangeError::NoDrive),
            Some(Drive::Disk(_)) => return Err(ChangeError::Fixed),
            Some(Drive::Cdrom(_)) => {
                let unit = Unit::ALL.get(slot).ok_or(ChangeError::NoDrive)?;
                let cdrom = board.ide.cdrom(*unit).ok_or(ChangeError::NoDrive)?;
                if force {
                    cdrom.remove();
                } else if !Cdrom::eject(cdrom) {
                    return Err(ChangeError::Locked);
                }
                swap();
                if let Some(media) = media {
                    cdrom.insert(media);
                }
            }
            Some(Drive::Floppy(kind, _)) => {
                if media.is_some_and(|media| !kind.takes(media.geometry)) {
                    return Err(ChangeError::Format);
                }
                board.fdc.eject(slot - FLOPPY);
                swap();
                if let Some(media) = media {
                    board.fdc.insert(slot - FLOPPY, media);
                }
            }
        }
        drives.put(slot, media.copied());
        Ok(())
    }

    /// The drives by slot with what is in them now.
    #[must_use]
    pub fn drives(&self) -> [Option<Drive>; SLOTS] {
        self.drives.lock().all()
    }
}
