import Foundation

/// The public numbers and durations of the package, read from the symbol graphs of its products.
///
/// A setting is what a user can write: a property that can be set, a parameter, a payload of an enum case; of the types in
/// ``types``. It is named after its place: `ConnectionConfiguration.heartbeat`, `AMQPChannel.cancel#timeout` for a parameter of all
/// functions of that name, `RPCRetry.idempotent` for the payloads of a case.
enum PublicNumbers {
    /// Numbers, durations, and what is made of them alone.
    private static let types: Set<String> = [
        "Duration", "Int", "Int8", "Int16", "Int32", "Int64", "UInt", "UInt8", "UInt16", "UInt32", "UInt64", "Double",
        "Float", "Backoff", "RestartIntensity",
    ]

    struct Failure: Error, CustomStringConvertible { var description: String }

    /// All names, except those of errors: they tell numbers, and take none.
    static func found() throws -> Set<String> {
        let modules = try products()
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("symbols-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        for module in modules { try extract(module, into: folder) }
        var names: Set<String> = []
        for file in try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
        where file.pathExtension == "json" {
            names.formUnion(try JSONDecoder().decode(Graph.self, from: Data(contentsOf: file)).numbers(types))
        }
        return names
    }

    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// The library products, whose modules have their names, and `RPCWire`, which they export.
    private static func products() throws -> [String] {
        let manifest = try String(contentsOf: root.appendingPathComponent("Package.swift"), encoding: .utf8)
        let names = manifest.matches(of: #/\.library\(name: "(\w+)"/#).map { String($0.1) }
        guard names.contains("Supervision") else { throw Failure(description: "no products in Package.swift") }
        return Set(names + ["RPCWire"]).sorted()
    }

    /// Where this build is: `.build/debug`, or what stands in its place.
    private static func buildFolder() throws -> URL {
        var folder = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath()
            .deletingLastPathComponent()
        if let bundle = CommandLine.arguments.first(where: { $0.hasSuffix(".xctest") }) {
            folder = URL(fileURLWithPath: bundle).deletingLastPathComponent()
        }
        for _ in 0..<6 {
            if FileManager.default.fileExists(atPath: folder.appendingPathComponent("Modules").path) { return folder }
            folder.deleteLastPathComponent()
        }
        throw Failure(description: "the folder with the built modules was not found from \(CommandLine.arguments)")
    }

    private static func extract(_ module: String, into folder: URL) throws {
        let build = try buildFolder()
        let files = FileManager.default
        func moduleMaps(below folder: URL, _ path: (String) -> String) -> [String] {
            ((try? files.contentsOfDirectory(atPath: folder.path)) ?? [])
                .map { folder.appendingPathComponent(path($0)).path }.filter { files.fileExists(atPath: $0) }
        }
        var maps = moduleMaps(below: build) { "\($0)/module.modulemap" }
        let checkouts = root.appendingPathComponent(".build/checkouts")
        for package in (try? files.contentsOfDirectory(atPath: checkouts.path)) ?? [] {
            maps += moduleMaps(below: checkouts.appendingPathComponent("\(package)/Sources")) {
                "\($0)/include/module.modulemap"
            }
        }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments =
            [
                "swift", "symbolgraph-extract", "-module-name", module, "-target", target, "-minimum-access-level",
                "public",
                "-I", build.appendingPathComponent("Modules").path,
                "-I", root.appendingPathComponent("Sources/CRabbitMQ").path, "-output-dir", folder.path,
            ] + maps.flatMap { ["-Xcc", "-fmodule-map-file=\($0)"] }
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw Failure(description: "no symbol graph of \(module): \(text)")
        }
    }

    private static var target: String {
        #if arch(arm64)
        let architecture = "aarch64"
        #else
        let architecture = "x86_64"
        #endif
        #if os(macOS)
        return "\(architecture == "aarch64" ? "arm64" : architecture)-apple-macosx15.0"
        #else
        return "\(architecture)-unknown-linux-gnu"
        #endif
    }
}

/// As much of the format as is needed.
private struct Graph: Decodable {
    struct Fragment: Decodable { var spelling: String }

    struct Symbol: Decodable {
        struct Kind: Decodable { var identifier: String }

        struct Identifier: Decodable { var precise: String }

        struct Signature: Decodable {
            struct Parameter: Decodable {
                var name: String
                var declarationFragments: [Fragment]
            }
            var parameters: [Parameter]?
        }

        var kind: Kind
        var identifier: Identifier
        var pathComponents: [String]
        var declarationFragments: [Fragment]
        var functionSignature: Signature?

        var declaration: String { declarationFragments.map(\.spelling).joined() }
        /// Without the labels of parameters.
        var name: String { pathComponents.map { String($0.prefix { $0 != "(" }) }.joined(separator: ".") }
    }

    struct Relationship: Decodable {
        var kind: String
        var source: String
        var target: String
    }

    var symbols: [Symbol]
    var relationships: [Relationship]

    func numbers(_ types: Set<String>) -> Set<String> {
        let errors = Set(
            relationships.filter { $0.kind == "conformsTo" && $0.target == "s:s5ErrorP" }.map(\.source)
        )
        let errorCases = Set(
            relationships.filter { $0.kind == "memberOf" && errors.contains($0.target) }.map(\.source)
        )
        var names: Set<String> = []
        for symbol in symbols
        where !symbol.identifier.precise.contains("::SYNTHESIZED") && !errorCases.contains(symbol.identifier.precise) {
            switch symbol.kind.identifier {
            case "swift.property", "swift.type.property":
                guard let match = symbol.declaration.firstMatch(of: #/\bvar `?\w+`?: (\S+?)\??( \{ get set \})?$/#)
                else {
                    continue
                }
                if types.contains(String(match.1)) { names.insert(symbol.name) }
            case "swift.enum.case":
                let words = symbol.declaration.split { !$0.isLetter && !$0.isNumber }.dropFirst(2).map(String.init)
                if words.contains(where: types.contains) { names.insert(symbol.name) }
            default:
                for parameter in symbol.functionSignature?.parameters ?? [] {
                    let text = parameter.declarationFragments.map(\.spelling).joined()
                    guard let type = text.firstMatch(of: #/: (\S+?)\??$/#)?.1, types.contains(String(type)) else {
                        continue
                    }
                    names.insert("\(symbol.name)#\(parameter.name)")
                }
            }
        }
        return names
    }
}
