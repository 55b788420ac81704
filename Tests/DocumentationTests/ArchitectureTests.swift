import Foundation
import TestTurns
import Testing

/// The graph of modules and folders, as the code has it.
///
/// A module uses another when one of its files imports it. A folder uses another of the same module when one of its files names a
/// type that is declared, at the top level, in the other only. The files of a module that are in no folder are a folder too, called
/// `.`.
struct ArchitectureGraph {
    private struct File {
        let module: String
        let folder: String
        let words: [Substring]
        let imports: Set<String>
        let declared: Set<String>
    }

    /// By node (`Module`, or `Module/Folder`), what it uses.
    private(set) var uses: [String: Set<String>] = [:]

    init(sources: URL) throws {
        var files: [File] = []
        let found = FileManager.default.enumerator(at: sources, includingPropertiesForKeys: nil)
        for case let url as URL in found ?? FileManager.DirectoryEnumerator() where url.pathExtension == "swift" {
            let parts = url.pathComponents.dropFirst(sources.pathComponents.count)
            guard let module = parts.first, parts.count >= 2 else { continue }
            let folder = parts.count == 2 ? "." : parts[parts.startIndex + 1]
            files.append(Self.read(try String(contentsOf: url, encoding: .utf8), module, folder))
        }
        let modules = Set(try FileManager.default.contentsOfDirectory(atPath: sources.path))
        for file in files {
            uses[file.module, default: []].formUnion(file.imports.intersection(modules).subtracting([file.module]))
        }
        for module in Set(files.map(\.module)) {
            let files = files.filter { $0.module == module }
            guard Set(files.map(\.folder)).count > 1 else { continue }
            var places: [String: Set<String>] = [:]
            for file in files {
                for name in file.declared { places[name, default: []].insert(file.folder) }
                uses[module + "/" + file.folder, default: []] = []
            }
            for file in files {
                for word in file.words {
                    guard let places = places[String(word)], places.count == 1, let other = places.first,
                        other != file.folder
                    else { continue }
                    uses[module + "/" + file.folder, default: []].insert(module + "/" + other)
                }
            }
        }
    }

    /// One line for each module and folder.
    var text: String {
        uses.keys.sorted().map { node in
            let used = uses[node, default: []].sorted().map {
                $0.contains("/") ? String($0.split(separator: "/")[1]) : $0
            }
            return used.isEmpty ? node : node + " -> " + used.joined(separator: ", ")
        }
        .joined(separator: "\n")
    }

    /// The pairs of nodes that use each other, directly or through others.
    var cycles: Set<String> {
        var reached: [String: Set<String>] = [:]
        for node in uses.keys {
            var seen: Set<String> = []
            var waiting = Array(uses[node, default: []])
            while let next = waiting.popLast() {
                if seen.insert(next).inserted { waiting += uses[next, default: []] }
            }
            reached[node] = seen
        }
        var result: Set<String> = []
        for (node, others) in reached {
            for other in others where reached[other]?.contains(node) == true && node < other {
                result.insert("\(node) <-> \(other)")
            }
        }
        return result
    }

    // MARK: - Reading

    private static func read(_ text: String, _ module: String, _ folder: String) -> File {
        var words: [Substring] = []
        var imports: Set<String> = []
        var declared: Set<String> = []
        let modifiers: Set<Substring> = [
            "public", "package", "internal", "final", "indirect", "nonisolated", "distributed", "usableFromInline",
        ]
        let kinds: Set<Substring> = ["struct", "class", "enum", "actor", "protocol", "typealias"]
        var isInText = false
        for line in text.split(separator: "\n") {
            // Documentation is none of the code; neither is what stands in a literal of several lines.
            if line.hasSuffix("\"\"\"") || line.contains("= \"\"\"") { isInText.toggle() }
            let code = Self.code(line)
            // The condition of `#if` may be the name of a trait, and that of a type.
            if isInText || line.hasPrefix("#if") || line.hasPrefix("#elseif") { continue }
            let inLine = code.split { !($0.isLetter || $0.isNumber || $0 == "_") }
            words += inLine.filter { $0.first?.isUppercase == true }
            guard !line.hasPrefix(" ") else { continue }
            var rest = inLine[...]
            while let first = rest.first, modifiers.contains(first) { rest = rest.dropFirst() }
            if rest.first == "import", let name = rest.last { imports.insert(String(name)) }
            if rest.first == "_exported" || rest.first == "preconcurrency" || rest.first == "testable",
                rest.contains("import"), let name = rest.last
            {
                imports.insert(String(name))
            }
            if let first = rest.first, kinds.contains(first), let name = rest.dropFirst().first {
                declared.insert(String(name))
            }
        }
        return File(module: module, folder: folder, words: words, imports: imports, declared: declared)
    }

    /// A line without its comment and without what stands in string literals.
    private static func code(_ line: Substring) -> Substring {
        if !line.contains("\"") {
            return line.range(of: "//").map { line[..<$0.lowerBound] } ?? line
        }
        var code = ""
        var isInString = false
        var last: Character = " "
        for character in line {
            if character == "\"", last != "\\" { isInString.toggle() }
            if !isInString {
                if character == "/", last == "/" { break }
                code.append(character)
            }
            last = character
        }
        return code[...]
    }
}

@Suite("docs/architecture.md", .besidesThePool)
struct ArchitectureTests {
    private static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    @Test("modules and folders point one way")
    func noCycles() throws {
        let graph = try ArchitectureGraph(sources: Self.root.appendingPathComponent("Sources"))
        #expect(graph.cycles.sorted() == [])
    }

    @Test("shows the graph that the code has")
    func shown() throws {
        let graph = try ArchitectureGraph(sources: Self.root.appendingPathComponent("Sources"))
        let page = try String(contentsOf: Self.root.appendingPathComponent("docs/architecture.md"), encoding: .utf8)
        let shown = page.components(separatedBy: "```graph\n").dropFirst().first?.components(separatedBy: "\n```").first
        #expect(shown == graph.text, "put this between ```graph and ``` in docs/architecture.md:\n\(graph.text)")
    }

    /// A task that is kept, returned or handed to whoever keeps it has an owner. Any other has a comment above that says who waits for
    /// it, or why nobody does.
    @Test("each task that is begun has an owner that waits for it, or says why it needs none")
    func tasks() throws {
        let sources = Self.root.appendingPathComponent("Sources")
        var ownerless: [String] = []
        for case let url as URL in FileManager.default.enumerator(at: sources, includingPropertiesForKeys: nil)
            ?? FileManager.DirectoryEnumerator() where url.pathExtension == "swift"
        {
            let lines = try String(contentsOf: url, encoding: .utf8).split(separator: "\n").map {
                $0.drop { $0 == " " }
            }
            for (index, line) in lines.enumerated()
            where !line.hasPrefix("//") && line.contains(#/\bTask(\.detached|\.immediateDetached)?(\(.*\))? \{/#) {
                if line.contains(#/(= |\? |add\(|return |, )Task/#) { continue }
                if index > 0, lines[index - 1].hasSuffix("add(") { continue }
                let above = lines[..<index].suffix(2).joined(separator: " ")
                let says =
                    above.contains("//") && (above.contains("wait") || above.contains("detached task all the same"))
                if !says { ownerless.append("\(url.lastPathComponent): \(line)") }
            }
        }
        #expect(ownerless.sorted() == [])
    }
}
