import Foundation

/// What is left of a broker in this machine: its folder, and every process that has it in its environment or arguments,
/// as the node, its helpers and its janitor have.
func remains(of folder: String) -> [String] {
    let files = FileManager.default
    var found = files.fileExists(atPath: folder) ? [folder] : []
    for id in (try? files.contentsOfDirectory(atPath: "/proc")) ?? [] where Int(id) != nil {
        for file in ["environ", "cmdline"] {
            guard let bytes = files.contents(atPath: "/proc/\(id)/\(file)") else { continue }
            if String(decoding: bytes, as: UTF8.self).contains(folder) { found.append("process \(id) (\(file))") }
        }
    }
    return found
}

/// The folders of all brokers in the temporary folder.
func brokerFolders() -> Set<String> {
    let path = FileManager.default.temporaryDirectory.path
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    return Set(names.filter { $0.hasPrefix("local-broker-") })
}
