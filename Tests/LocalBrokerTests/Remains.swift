import Foundation

/// What is left of a broker in this machine: its folder, and every process that has it in its environment or arguments,
/// as the node, its helpers and its cleanup watchdog have.
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

/// The folders of all brokers in a folder.
func brokerFolders(in parent: String) -> Set<String> {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? []
    return Set(names.filter { $0.hasPrefix("local-broker-") }.map { "\(parent)/\($0)" })
}

/// Runs `body` with a folder of its own to make brokers in, so that those of other tests are not seen.
func withParentFolder(_ body: (String) async throws -> Void) async throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("brokers-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try await body(folder.path)
}
