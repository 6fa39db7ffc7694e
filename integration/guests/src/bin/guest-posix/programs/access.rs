//! Who may do what, by mode, by list and by capability.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::Result;
use nix::errno::Errno;
use rustix::fs::{
    Access, AtFlags, CWD, Gid, Mode, OFlags, Uid, XattrFlags, accessat, chown, getxattr, open, setxattr,
};

use crate::run::{Runner, become_root, become_user};

const OWNER: u32 = 1000;
const GROUP: u32 = 100;

/// Every mode of one class alone, each user, each way to open a file, and to look for it in a directory.
pub fn by_mode(runner: &mut Runner) -> Result<()> {
    fs::write("f", "x")?;
    fs::create_dir("d")?;
    fs::write("d/f", "x")?;
    for name in ["f", "d"] {
        chown(name, Some(Uid::from_raw(OWNER)), Some(Gid::from_raw(GROUP)))?;
    }
    // The place of the class's bits, and who is of it.
    for (shift, user, group) in [(6, OWNER, GROUP), (3, 1001, GROUP), (0, 1002, 7)] {
        for bits in 0..8 {
            // The other classes have what this one lacks: it must not matter.
            let mode = (bits << shift) | (0o777 & !(7 << shift));
            for name in ["f", "d"] {
                fs::set_permissions(name, fs::Permissions::from_mode(mode))?;
            }
            become_user(user, group, &[])?;
            for (what, flags, needs) in
                [("reads", OFlags::RDONLY, 4), ("writes", OFlags::WRONLY, 2), ("does both", OFlags::RDWR, 6)]
            {
                let may = bits & needs == needs;
                let found = open("f", flags, Mode::empty()).is_ok();
                runner.is(&format!("user {user} {what}, with {mode:04o}: {may}"), found, may);
            }
            for (what, access, needs) in
                [("r", Access::READ_OK, 4), ("w", Access::WRITE_OK, 2), ("x", Access::EXEC_OK, 1)]
            {
                let may = bits & needs == needs;
                let found = accessat(CWD, "f", access, AtFlags::EACCESS).is_ok();
                runner.is(&format!("access tells user {user} {what}, with {mode:04o}: {may}"), found, may);
            }
            runner.is(
                &format!("user {user} looks into {mode:04o}"),
                fs::metadata("d/f").is_ok(),
                bits & 1 == 1,
            );
            runner.is(&format!("user {user} lists {mode:04o}"), fs::read_dir("d").is_ok(), bits & 4 == 4);
            become_root()?;
        }
    }
    Ok(())
}

/// A list as the kernel has it (linux/posix_acl_xattr.h): the owner rw, user 1000 r, the group none, mask r, others none.
fn list() -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 4, OWNER), (4, 0, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// acl(5)
pub fn lists(runner: &mut Runner) -> Result<()> {
    fs::write("f", "secret")?;
    fs::set_permissions("f", fs::Permissions::from_mode(0o600))?;
    setxattr("f", "system.posix_acl_access", &list(), XattrFlags::empty())?;
    runner.is("the mask is the group's mode", fs::metadata("f")?.permissions().mode() & 0o777, 0o640);
    become_user(OWNER, OWNER, &[])?;
    runner.is("a user of the list reads", fs::read("f").is_ok(), true);
    runner.fails("and does not write", open("f", OFlags::WRONLY, Mode::empty()), Errno::EACCES);
    become_user(1001, 1001, &[])?;
    runner.fails("another does not read", fs::read("f"), Errno::EACCES);
    become_root()?;
    fs::set_permissions("f", fs::Permissions::from_mode(0o600))?;
    become_user(OWNER, OWNER, &[])?;
    runner.fails("without the mask nobody of the list reads", fs::read("f"), Errno::EACCES);
    become_root()?;
    fs::create_dir("d")?;
    setxattr("d", "system.posix_acl_default", &list(), XattrFlags::empty())?;
    drop(open("d/f", OFlags::CREATE, Mode::from_raw_mode(0o666))?);
    fs::create_dir("d/d")?;
    let mut room = [0; 256];
    runner.is(
        "a new file has the directory's list",
        getxattr("d/f", "system.posix_acl_access", &mut room).is_ok(),
        true,
    );
    runner.is("and not the mask of the process", fs::metadata("d/f")?.permissions().mode() & 0o777, 0o640);
    runner.is(
        "a new directory hands it on",
        getxattr("d/d", "system.posix_acl_default", &mut room).is_ok(),
        true,
    );
    Ok(())
}

/// capabilities(7): what is written to loses them.
pub fn capabilities(runner: &mut Runner) -> Result<()> {
    const NAME: &str = "security.capability";
    // `struct vfs_cap_data` of version 2 with one bit.
    let mut capability = [0_u8; 20];
    capability[3] = 2;
    capability[5] = 4;
    let mut room = [0; 64];
    for (what, change) in [
        ("written to", (|| fs::write("f", "new")) as fn() -> std::io::Result<()>),
        ("cut", || fs::File::options().write(true).open("f")?.set_len(1)),
        ("given away", || Ok(chown("f", Some(Uid::from_raw(5)), None)?)),
    ] {
        fs::write("f", "program")?;
        setxattr("f", NAME, &capability, XattrFlags::empty())?;
        runner.is("a file has capabilities", getxattr("f", NAME, &mut room).ok(), Some(20));
        change()?;
        runner.fails(&format!("and none when it was {what}"), getxattr("f", NAME, &mut room), Errno::ENODATA);
    }
    Ok(())
}
