import Foundation
import TestTurns
import Testing

/// The public names of a module, found in its source: enough of Swift's grammar for this package's formatting.
private struct Symbols {
    private(set) var types: Set<String> = []
    private var members: [String: Set<String>] = [:]

    init(of module: String) throws {
        for file in Samples.files(in: ["Sources/\(module)"], extension: "swift") {
            read(try String(contentsOf: file, encoding: .utf8))
        }
    }

    /// Whether there is a type `Type`, or a member `Type/member(label:)`; a nested type's members are found under its own name.
    func contains(_ link: String) -> Bool {
        let parts = link.split(separator: "/").map(String.init)
        guard let last = parts.last else { return false }
        if parts.count == 1 { return types.contains(last) }
        let owner = parts[parts.count - 2]
        return types.contains(owner) && members[owner]?.contains(last) == true
    }

    /// Whether any type has such a member.
    func hasMember(_ name: String) -> Bool { members.values.contains { $0.contains(name) } }

    private mutating func read(_ text: String) {
        let declaration =
            #/^(\s*).*?\b(struct|class|actor|enum|protocol|extension|typealias|func|init|subscript|var|let|case)\b\s*([A-Za-z_]\w*)?/#
        var owners: [(indent: Int, name: String)] = []
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        for (index, line) in lines.enumerated() {
            guard !line.drop(while: \.isWhitespace).hasPrefix("//"), let match = line.firstMatch(of: declaration) else {
                continue
            }
            let indent = match.1.count
            while let owner = owners.last, owner.indent >= indent { owners.removeLast() }
            let name = match.3.map(String.init) ?? ""
            switch match.2 {
            case "struct", "class", "actor", "enum", "protocol", "extension", "typealias":
                if let owner = owners.last?.name { members[owner, default: []].insert(name) }
                if match.2 != "extension" { types.insert(name) }
                if match.2 != "typealias" { owners.append((indent, name)) }
            default:
                guard let owner = owners.last?.name else { continue }
                // A declaration and its parameters are no longer.
                let rest = lines[index...].prefix(40).joined(separator: "\n")[...]
                let start = rest.index(
                    rest.startIndex,
                    offsetBy: line.distance(from: line.startIndex, to: match.range.upperBound)
                )
                let base = match.2 == "init" || match.2 == "subscript" ? String(match.2) : name
                members[owner, default: []].insert(base + Symbols.labels(rest[start...]))
            }
        }
    }

    /// `(a:_:)` of the parameters that begin here, after generic ones; nothing when there are none.
    private static func labels(_ text: Substring) -> String {
        var text = text.drop { $0 == " " }
        if text.first == "<" {
            var depth = 0
            guard
                let end = text.firstIndex(where: { character in
                    if character == "<" { depth += 1 }
                    if character == ">" { depth -= 1 }
                    return depth == 0
                })
            else { return "" }
            text = text[text.index(after: end)...]
        }
        guard text.first == "(" else { return "" }
        var (depth, parameters, current) = (0, [String](), "")
        scan: for character in text {
            switch character {
            case "(", "[", "{", "<":
                depth += 1
                if depth > 1 { current.append(character) }
            case ")", "]", "}":
                depth -= 1
                if depth == 0 { break scan }
                current.append(character)
            case ">":
                // Not that of an arrow.
                if current.last != "-" { depth -= 1 }
                current.append(character)
            case "," where depth == 1:
                parameters.append(current)
                current = ""
            default: current.append(character)
            }
        }
        if !current.allSatisfy(\.isWhitespace) { parameters.append(current) }
        let labels = parameters.map { parameter in
            let head = parameter.split(separator: ":", maxSplits: 1).first ?? ""
            let words = head.split(whereSeparator: \.isWhitespace).filter { !$0.hasPrefix("@") }
            // The associated values of a case may have no label.
            return parameter.contains(":") ? (words.first.map(String.init) ?? "_") + ":" : "_:"
        }
        return "(" + labels.joined() + ")"
    }
}

@Suite("The names in the articles of Supervision", .besidesThePool)
struct SymbolTests {
    static let articles = Samples.files(in: ["Sources/Supervision/Supervision.docc"], extension: "md")

    private static let symbols = Result { try Symbols(of: "Supervision") }

    @Test("are names of the code", arguments: articles)
    func links(article: URL) throws {
        let symbols = try Self.symbols.get()
        let text = try String(contentsOf: article, encoding: .utf8).replacing(/```[\s\S]*?```/, with: "")
        for match in text.matches(of: /``([^`\n]+)``/) where match.1 != "Supervision" {
            let isKnown = symbols.contains(String(match.1))
            #expect(isKnown, "\(article.lastPathComponent) names \(match.1)")
        }
    }

    /// The documented functions and callbacks of Elixir 1.18, as its reference counts their parameters.
    private static let elixir = [
        "Supervisor":
            "child_spec/2 count_children/1 delete_child/2 init/2 restart_child/2 start_child/2 start_link/2 start_link/3 "
            + "stop/3 terminate_child/2 which_children/1 c:init/1",
        "DynamicSupervisor":
            "child_spec/1 count_children/1 init/1 start_child/2 start_link/1 start_link/3 stop/3 terminate_child/2 "
            + "which_children/1 c:init/1",
        "PartitionSupervisor":
            "child_spec/1 count_children/1 partitions/1 resize!/2 start_link/1 stop/3 which_children/1",
        "Registry":
            "child_spec/1 count/1 count_match/4 count_select/2 delete_meta/2 dispatch/4 keys/2 lock/3 lookup/2 match/4 meta/2 "
            + "put_meta/3 register/3 select/2 start_link/1 unregister/2 unregister_match/4 update_value/3 values/3",
        "Task.Supervisor":
            "async/3 async/5 async_nolink/3 async_nolink/5 async_stream/4 async_stream/6 async_stream_nolink/4 "
            + "async_stream_nolink/6 children/1 start_child/3 start_child/5 start_link/1 terminate_child/2",
        "Task":
            "async/1 async/3 async_stream/3 async_stream/5 await/2 await_many/2 child_spec/1 completed/1 ignore/1 shutdown/2 "
            + "start/1 start/3 start_link/1 start_link/3 yield/2 yield_many/2",
        "GenServer":
            "abcast/3 call/3 cast/2 multi_call/4 reply/2 start/3 start_link/3 stop/3 whereis/1 c:init/1 c:handle_call/3 "
            + "c:handle_cast/2 c:handle_info/2 c:handle_continue/2 c:terminate/2 c:format_status/1 c:format_status/2 "
            + "c:code_change/3",
    ]

    /// The rows of the tables for those who come from Elixir: what it has, and what that is here.
    private static func elixirRows() throws -> [(elixir: Substring, here: Substring)] {
        let article = try #require(articles.first { $0.lastPathComponent == "ComingFromErlang.md" })
        let text = try String(contentsOf: article, encoding: .utf8)
        let list = try #require(text.components(separatedBy: "## Every function of Elixir's").last)
        let lines = try #require(list.components(separatedBy: "\n## ").first).split(separator: "\n")
        return lines.filter { $0.hasPrefix("| ") }.compactMap { line in
            let cells = line.split(separator: "|", omittingEmptySubsequences: false).dropFirst().dropLast()
            return cells.count == 2 ? (cells[cells.startIndex], cells[cells.startIndex + 1]) : nil
        }
    }

    @Test("of those who come from Elixir are all functions and callbacks of its modules, each with what it is here")
    func elixirFunctions() throws {
        let symbols = try Self.symbols.get()
        var listed: [String: Int] = [:]
        for (elixir, here) in try Self.elixirRows() where elixir.contains("`") {
            let names = elixir.matches(of: /`(c:)?([A-Z][A-Za-z.]*)\.([a-z_!]+\/[0-9]+)`/)
            for name in names { listed["\(name.2).\(name.1 ?? "")\(name.3)", default: 0] += 1 }
            // A name of ours, an article, or a reason.
            let isAnswered =
                here.contains("``") || here.contains("not here:") || here.contains("not needed:")
                || here.contains("start closure") || here.contains("methods") || here.contains("that calls")
            #expect(isAnswered, "\(elixir)")
        }
        for (module, names) in Self.elixir {
            for name in names.split(separator: " ") {
                let found = listed.removeValue(forKey: "\(module).\(name)")
                #expect(found == 1, "\(module).\(name) stands in \(found ?? 0) rows")
            }
        }
        // What is left is nothing of these modules; other modules' functions stand beside what replaces them here.
        let unknown = listed.keys.filter { name in Self.elixir.keys.contains { name.hasPrefix($0 + ".") } }
        #expect(unknown.isEmpty, "Elixir 1.18 does not have \(unknown)")
        // Names in single quotes, of extensions of Swift's own types, are members of something here too.
        for (_, here) in try Self.elixirRows() {
            for match in here.replacing("``", with: "").matches(of: /`([a-z][A-Za-z]*\([a-zA-Z_:]*:\))`/) {
                #expect(symbols.hasMember(String(match.1)), "\(match.1)")
            }
        }
    }
}

@Suite("The table of processes by key", .besidesThePool)
struct KeyedTableTests {
    /// A row, by the beginning of its first cell, and the test that plays it.
    private static let rows = [
        ("a call, and the key has a process", "starts the process of a key with the first call"),
        ("a call, and the key has none", "starts the process of a key with the first call"),
        ("many calls of a key without a process at once", "is started once, however many ask at once"),
        ("the process crashes or is killed", "a call that waits while its process restarts runs once"),
        ("it ends normally, or is not to be restarted", "a process that ended normally has no successor"),
        ("nobody has called it for", "a process is ended when nobody has called it for the idle time"),
        ("a call is under way, or has arrived", "a process with a call under way is not ended as idle"),
        ("a call arrives while the process is being ended", "calls and idle ends race without a call that fails"),
        ("``KeyedReference/stop()``", "a stopped process ends after the calls under way"),
        (
            "a process awaits the ``KeyedReference/stop()`` of its own key",
            "what waits for itself ends with its timeout"
        ),
        ("one process more than `limit`", "refuses one more process than it may have"),
        ("one more, with ``ProcessLimit/leastRecentlyUsed", "ends the least recently used process over all partitions"),
        ("the start closure throws", "a start that fails fails all who waited for it, once"),
        ("it returns `nil`", "a start that returns nil starts nothing"),
        ("it hangs", "a start that hangs holds no caller longer than its timeout"),
        ("one process is restarted more often", "the intensity is each process's own"),
        ("the process ends for good before the body", "a call whose process ended for good before the body began"),
        ("the keyed supervisor ends, or its tree", "ends with its supervisor"),
        ("it is restarted", "or cools down, or ends the keyed supervisor"),
        ("a call's task is cancelled while it waits", "a start that hangs holds no caller longer than its timeout"),
    ]

    @Test("has a test for each row")
    func tests() throws {
        let article = Samples.root.appending(path: "Sources/Supervision/Supervision.docc/ProcessesByKey.md")
        let tests = Samples.root.appending(path: "Tests/SupervisionTests/KeyedSupervisorTests.swift")
        let source = try String(contentsOf: tests, encoding: .utf8)
        let lines = try String(contentsOf: article, encoding: .utf8).split(separator: "\n")
            .filter { $0.hasPrefix("| ") }
        let situations = lines.dropFirst().map { String($0.dropFirst(2)) }
        #expect(situations.count == Self.rows.count)
        for (situation, (row, test)) in zip(situations, Self.rows) {
            #expect(situation.hasPrefix(row))
            #expect(source.contains("@Test(\"\(test)"), "no test begins with '\(test)'")
        }
    }
}
