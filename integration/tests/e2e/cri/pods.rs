//! Pods of each kind that Kubernetes makes, each the least that shows it.

use integration::check::Lab;

pub fn of_kubernetes(lab: &mut Lab) {
    lab.must(
        "a pod with one set of processes, files of the node, a configuration and a port",
        r#"mkdir -p /root/share /root/node /root/config/..1; echo old > /root/config/..1/key; ln -s ..1 /root/config/..data; ln -s ..data/key /root/config/key
        echo fixed > /root/node/file
        pod all '.linux.security_context.namespace_options.pid = "POD" | .port_mappings = [{container_port: 80, host_port: 8123}]'"#,
    );
    lab.step(
        "an init container runs to its end before all others",
        r#"con all init '. + {command: ["sh", "-c", "sleep 1; echo prepared > /share/a; exit 0"], mounts: [{container_path: "/share", host_path: "/root/share"}]}'
        eventually 'state all.init | grep -v RUNNING' 0.2"#,
    )
    .out("CONTAINER_EXITED 0 Completed\n");
    lab.must(
        "then a container beside another",
        r#"M='{mounts: [{container_path: "/share", host_path: "/root/share"}, {container_path: "/node", host_path: "/root/node", readonly: true},
            {container_path: "/config", host_path: "/root/config", readonly: true}], linux: {security_context: {namespace_options: {pid: "POD"}, run_as_user: {value: 1000}}}}'
        con all side '. + {command: ["sleep", "54321"], linux: {security_context: {namespace_options: {pid: "POD"}}}}'
        con all main ". + $M"' + {command: ["sh", "-c", "cat /share/a; exec sleep 12345"]}'"#,
    );
    lab.wait("it began with what was prepared", "grep -q 'stdout F prepared' /root/logs/all/main.log");
    lab.step(
        "each sees all processes, as its own user",
        "sh_in all.main 'ps -o args | grep -c \"^sleep [0-9]*$\"; id -u'; sh_in all.side 'kill -0 1 && pidof sleep > /dev/null && echo all'",
    )
    .out("2\n1000\nall\n");
    lab.step(
        "the node's files can only be read",
        "sh_in all.main 'cat /node/file; echo x > /node/file'; cat /root/node/file",
    )
    .out("fixed\nfixed\n")
    .err_has("Read-only file system");
    lab.step("the configuration", "sh_in all.main 'cat /config/key'").out("old\n");
    lab.step(
        "is another at once",
        "mkdir /root/config/..2; echo new > /root/config/..2/key; ln -s ..2 /root/config/..tmp; mv -T /root/config/..tmp /root/config/..data; rm -r /root/config/..1
         eventually '[ \"$(sh_in all.main \"cat /config/key\")\" = new ]' && echo seen",
    )
    .out("seen\n");
    lab.step(
        "its port on the node",
        "con all web '. + {command: [\"sh\", \"-c\", \"echo hello > /tmp/index.html; exec httpd -f -p 80 -h /tmp\"]}'
         eventually 'echo \"GET /index.html HTTP/1.0\n\" | nc -q 5 -w 5 $(ip -4 -o addr show cni0 | grep -o \"10.77.0.[0-9]*\" | head -n1) 8123 | tail -n1 | grep hello' 0.3",
    )
    .out("hello\n");
    lab.step(
        "forwarded, to what listens on all addresses and to what listens on localhost alone",
        r#"url=$(ask PortForward all '. + {port: [80]}' | jq -r .url); printf 'GET /index.html HTTP/1.0\r\n\r\n' | host-cri forward $url | tail -n1
        con all local '. + {command: ["httpd", "-f", "-p", "127.0.0.1:81", "-h", "/etc"]}'
        again() { url=$(ask PortForward all '. + {port: [81]}' | jq -r .url); printf 'GET /hostname HTTP/1.0\r\n\r\n' | host-cri forward $url | tail -n1; }
        eventually '[ "$(again)" = all ] && echo all'"#,
    )
    .out("hello\nall\n");
    lab.step("a container that is out of its memory", r#"con all fat '. + {command: ["tail", "/dev/zero"], linux: {resources: {memory_limit_in_bytes: 33554432}, security_context: {namespace_options: {pid: "POD"}}}}'
        eventually 'state all.fat | grep -v RUNNING' 0.2; state all.main"#)
        .out("CONTAINER_EXITED 137 OOMKilled\nCONTAINER_RUNNING 0 \n");
    lab.must("removed as it runs", "gone all; rm -r /root/share /root/node /root/config");
}
