//! What runs on this machine and not in the virtual host, against the product's server there: the newest published client, and a
//! browser. Each sandbox is a microVM.

use std::path::Path;
use std::process::Command;

use integration::{
    check::{Lab, Page},
    dev::Project,
};

/// The newest client that is published.
const CLIENT: &str = "0.7.11";

/// The client as it is on PyPI, told that the server is its cloud: the same script that the server's own tests run.
pub fn client(lab: &mut Lab) {
    let site = Project::here().python_client(CLIENT).expect("the client can be had").join("site");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../msb/tests/server/client_v1.py");
    let output = lab.reach("the newest client runs commands and moves files", 5555, |address| {
        Command::new("python3")
            .arg(script)
            .env("PYTHONPATH", site)
            .envs([("MSB_BACKEND", "cloud"), ("MSB_API_KEY", "any"), ("IMAGE", "busybox")])
            .env("MSB_API_URL", format!("http://{address}"))
            .output()
            .expect("there is a Python, which brought the client")
    });
    if !output.status.success() {
        lab.fail(&format!(
            "the newest client: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
}

/// The page, with the sandbox `one` in its list.
pub fn page(lab: &mut Lab) {
    lab.reach("somebody looks at a sandbox and works in it", 5555, |address| {
        let Some(mut page) = Page::open(&format!("http://{address}/")) else { return };
        page.wait("document.querySelectorAll('#list tr').length > 0");
        page.value("document.querySelector('#list tr').click()");
        page.wait("document.getElementById('state').textContent === 'running'");
        page.value("document.getElementById('show-terminal').click()");
        page.wait("terminal && terminal.screen.column > 0");
        // What only the microVM has: its kernel, and its processor's time, which somebody uses up.
        page.press(&["echo $((6 * 7)) $(uname -r); timeout 60 sh -c 'while :; do :; done'", "Enter"]);
        page.wait("terminal.screen.lines.some((l, at) => /^42 .*-msb/.test(terminal.screen.text(at)))");
        page.wait("Math.max(...sandboxes.get('default/one').cpu) > 30");
        page.wait("/^[1-9][0-9]* MiB$/.test(document.getElementById('memory').textContent)");
        page.wait("document.querySelectorAll('#list td.number')[0].textContent !== '–'");
        page.wait("sandboxes.get('default/one').cpu.length >= 4");
        let drawn = |id: &str| format!(
            "(() => {{ const c = document.getElementById('{id}'); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; \
             let n = 0; for (let i = 0; i < d.length; i += 4) if (d[i + 2] > 200 && d[i] < 90 && d[i + 3] > 200) n += 1; \
             return n > 20; }})()"
        );
        page.wait(&drawn("plot-cpu"));
        page.wait(&drawn("plot-memory"));
        let picture = page.picture(Path::new(env!("CARGO_TARGET_TMPDIR")), "microvm");
        eprintln!("What it looks like is in {}", picture.display());
        page.press(&["Interrupt", "exit 3", "Enter"]);
        page.wait("document.getElementById('terminal').innerText.includes('The shell ended with 3.')");
    });
}
