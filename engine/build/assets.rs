//! Makes what the engine serves itself ready to be sent: compressed once, here, and named by what it holds.
//!
//! For each file: `NAME.gz` in the folder of the build, and its entity tag as a variable that `request/asset.rs` reads. The files
//! are those of the tree as they stand; nothing is fetched, and no time of the build is kept, so that the same tree gives the same
//! bytes.

use std::io::Write as _;
use std::path::Path;
use std::{env, fs};

use flate2::{Compression, GzBuilder};

/// The variable of its tag, and the file.
const FILES: [(&str, &str); 10] = [
    ("CORECAST_TAG_CLIENT", "../clients/js/corecast.js"),
    ("CORECAST_TAG_MINIFIED", "../clients/js/corecast.min.js"),
    ("CORECAST_TAG_PAGE", "assets/index.html"),
    ("CORECAST_TAG_DEMO", "assets/demo/demo.js"),
    ("CORECAST_TAG_DEMO_STYLE", "assets/demo/demo.css"),
    ("CORECAST_TAG_DEMOS", "assets/demo/demos.html"),
    ("CORECAST_TAG_STOCKS", "assets/demo/stocks.html"),
    ("CORECAST_TAG_DEPTH", "assets/demo/depth.html"),
    ("CORECAST_TAG_CHAT", "assets/demo/chat.html"),
    ("CORECAST_TAG_TELEMETRY", "assets/demo/telemetry.html"),
];

pub(crate) fn make() {
    let folder = env::var_os("OUT_DIR").expect("cargo names a folder for what is made");
    for (variable, path) in FILES {
        println!("cargo:rerun-if-changed={path}");
        let plain = fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut packed = GzBuilder::new().write(Vec::new(), Compression::best());
        packed.write_all(&plain).expect("memory takes everything");
        let packed = packed.finish().expect("memory takes everything");
        let name = Path::new(path).file_name().expect("a file has a name").to_string_lossy();
        fs::write(Path::new(&folder).join(format!("{name}.gz")), packed)
            .expect("the folder of the build can be written to");
        println!("cargo:rustc-env={variable}={:016x}", fnv1a(&plain));
    }
}

/// FNV-1a, 64 bits: whoever could choose two files with one name could as well choose what is served.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
