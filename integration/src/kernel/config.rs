//! The kernel's configuration as we ask for it: fragments in, one text for `KCONFIG_ALLCONFIG` out, and the comparison of
//! what was asked for with what came out. Pure: no I/O.

use std::collections::HashMap;

use super::Arch;

/// One file of `guest/kernel/`.
#[derive(Debug, Clone, Copy)]
pub struct Fragment {
    /// Its file name.
    pub name: &'static str,
    /// Its text, in the syntax of a kernel `.config`.
    pub text: &'static str,
}

macro_rules! fragment {
    ($name:literal) => {
        Fragment { name: $name, text: include_str!(concat!("../../../guest/kernel/", $name)) }
    };
}

/// What is asked for on every processor.
const COMMON: [Fragment; 5] = [
    fragment!("base.config"),
    fragment!("virtio.config"),
    fragment!("filesystems.config"),
    fragment!("containers.config"),
    fragment!("network.config"),
];

/// A place in the source that is otherwise than we want and that no setting changes.
#[derive(Debug, Clone, Copy)]
pub struct Edit {
    /// The file, below the source directory.
    pub file: &'static str,
    /// What stands there, exactly once.
    pub from: &'static str,
    /// What replaces it.
    pub to: &'static str,
}

/// The edits; each costs us care at an update of the source, so each must earn it.
pub const EDITS: [Edit; 8] = [
    // /sys/kernel/slab: 2000 files made at boot, 3.7 million instructions of 30, for one debugging tool (`slabinfo`;
    // `slabtop` reads /proc). Caches that are made before this initcall has run have no directory; if it never runs, none has.
    Edit {
        file: "mm/slub.c",
        from: "\nlate_initcall(slab_late_init);\n",
        to: "\nstatic int (*const slab_late_init_unused)(void) __maybe_unused = slab_late_init;\n",
    },
    // A virtiofs beneath another, as each volume is one, forgets that the first judges by access control lists: they could
    // not be set there, and access was judged by the mode alone, whose group has what the list's mask has.
    Edit {
        file: "fs/fuse/inode.c",
        from: "\n\tsb->s_xattr = parent_sb->s_xattr;\n",
        to: "\n\tsb->s_xattr = parent_sb->s_xattr;\n\tsb->s_flags |= parent_sb->s_flags & SB_POSIXACL;\n",
    },
    // Before each write the server was asked whether the file has capabilities, which the write would have to take away: one
    // more round trip. It takes them away itself (FUSE_HANDLE_KILLPRIV_V2), as its kernel does with every write.
    Edit {
        file: "fs/fuse/file.c",
        from: "\n\terr = file_remove_privs(file);\n",
        to: "\n\terr = fc->handle_killpriv_v2 && !is_sxid(inode->i_mode) ? 0 : file_remove_privs(file);\n",
    },
    // And where it has taken set-user-ID away the mode is asked for anew: the file could be run with the old one for a second.
    Edit {
        file: "fs/fuse/file.c",
        from: "\t\twritten = fuse_perform_write(iocb, from);\n\t}\nout:\n",
        to: "\t\twritten = fuse_perform_write(iocb, from);\n\t}\n\tif (fc->handle_killpriv_v2 && is_sxid(inode->i_mode))\n\t\t\
             fuse_invalidate_attr_mask(inode, STATX_MODE);\nout:\n",
    },
    // Who closes a file has the server told, and waits, so that it can tell of what went wrong with earlier writes. Of a file
    // that was open for reading alone there is nothing to tell, unless locks are the server's.
    Edit {
        file: "fs/fuse/file.c",
        from: "\tif (ff->open_flags & FOPEN_NOFLUSH && !fm->fc->writeback_cache)\n",
        to: "\tif ((ff->open_flags & FOPEN_NOFLUSH || (fm->fc->no_lock && !(file->f_mode & FMODE_WRITE))) &&\n\t    \
             !fm->fc->writeback_cache)\n",
    },
    // What a container reads from its standard input comes in pieces as long as these buffers, each with an interrupt: 16 KiB,
    // not 4. There are as many as the device's queue is long, a quarter of Linux's usual 128, so that they take no more memory.
    Edit {
        file: "include/linux/virtio_vsock.h",
        from: "SKB_WITH_OVERHEAD(1024 * 4)",
        to: "SKB_WITH_OVERHEAD(1024 * 16)",
    },
    // A short piece that nobody has read yet holds such a buffer for itself: it is copied behind the piece before it, so that
    // a program that does not read a few bytes each time does not cost the guest a hundred times their memory.
    Edit {
        file: "net/vmw_vsock/virtio_transport_common.c",
        from: "#define GOOD_COPY_LEN  128\n",
        to: "#define GOOD_COPY_LEN  4096\n",
    },
    // Pages of a file system that can't be written, as the image's layers, are in the account of the root's cgroup. They were
    // in that of the container, which has read them, and there at its limit they are all that can be freed: a container
    // short of memory freed its own programs and read them again, ten thousand times, before it was killed. On a host they
    // are in the account of whoever of all the image's containers came first.
    Edit {
        file: "mm/filemap.c",
        from: "\n\tret = mem_cgroup_charge(folio, NULL, gfp);\n",
        to: "\n\tif (sb_rdonly(mapping->host->i_sb)) {\n\t\tstruct mem_cgroup *old = set_active_memcg(root_mem_cgroup);\n\n\
             \t\tret = mem_cgroup_charge(folio, NULL, gfp);\n\t\tset_active_memcg(old);\n\t} else {\n\
             \t\tret = mem_cgroup_charge(folio, NULL, gfp);\n\t}\n",
    },
];

const X86_64: Fragment = fragment!("x86_64.config");
const AARCH64: Fragment = fragment!("aarch64.config");

/// The fragments for one processor, in the order in which they are joined.
pub fn fragments(arch: Arch) -> Vec<Fragment> {
    let own = match arch {
        Arch::X86_64 => X86_64,
        Arch::Aarch64 => AARCH64,
    };
    COMMON.into_iter().chain([own]).collect()
}

/// The fragments as one text.
pub fn joined(arch: Arch) -> String {
    fragments(arch).iter().map(|fragment| format!("# {}\n{}", fragment.name, fragment.text)).collect()
}

/// The settings of a configuration: symbol and value, `None` where it says "is not set".
fn settings(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    text.lines().filter_map(|line| {
        let line = line.trim();
        if let Some(symbol) = line.strip_prefix("# ").and_then(|rest| rest.strip_suffix(" is not set")) {
            return symbol.starts_with("CONFIG_").then_some((symbol, None));
        }
        let (symbol, value) = line.split_once('=')?;
        symbol.starts_with("CONFIG_").then_some((symbol, Some(value)))
    })
}

impl Edit {
    /// `text` after the edit; nothing if it does not stand there exactly once.
    pub fn apply(&self, text: &str) -> Option<String> {
        let (before, after) = text.split_once(self.from)?;
        (!after.contains(self.from)).then(|| [before, self.to, after].concat())
    }
}

/// What of `asked` is otherwise in `result`, a finished `.config`: symbols that do not exist in this source, whose
/// dependencies are not met, or that something selects although they should be off. As `SYMBOL: asked …, is …`.
#[must_use]
pub fn lost_symbols(asked: &str, result: &str) -> Vec<String> {
    let result: HashMap<&str, Option<&str>> = settings(result).collect();
    settings(asked)
        .filter_map(|(symbol, asked)| {
            let is = result.get(symbol).copied().flatten();
            (asked != is)
                .then(|| format!("{symbol}: asked {}, is {}", asked.unwrap_or("off"), is.unwrap_or("off")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_symbol_is_asked_for_once() {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let text = joined(arch);
            let mut seen = HashSet::new();
            for (symbol, _) in settings(&text) {
                assert!(seen.insert(symbol), "{symbol} is asked for twice on {arch:?}");
            }
            assert!(seen.len() > 200, "only {} symbols on {arch:?}", seen.len());
        }
    }

    #[test]
    fn every_line_is_a_setting_or_a_comment() {
        for fragment in COMMON.iter().chain([&X86_64, &AARCH64]) {
            for line in fragment.text.lines() {
                let setting = settings(line).next().is_some();
                assert!(setting || line.is_empty() || line.starts_with('#'), "{}: {line}", fragment.name);
            }
        }
    }

    #[test]
    fn an_edit_wants_its_place_once() {
        let edit = Edit { file: "", from: "b", to: "x" };
        assert_eq!(edit.apply("abc").as_deref(), Some("axc"));
        assert_eq!(edit.apply("ac"), None);
        assert_eq!(edit.apply("abcb"), None);
    }

    #[test]
    fn lost_symbols_are_named() {
        let asked = "# why\nCONFIG_SMP=y\nCONFIG_NR_CPUS=32\n# CONFIG_PCI is not set\nCONFIG_GONE=y\n# CONFIG_OFF is not set\n";
        let result = "CONFIG_SMP=y\nCONFIG_NR_CPUS=64\nCONFIG_PCI=y\n";
        assert_eq!(
            lost_symbols(asked, result),
            [
                "CONFIG_NR_CPUS: asked 32, is 64",
                "CONFIG_PCI: asked off, is y",
                "CONFIG_GONE: asked y, is off"
            ]
        );
    }
}
