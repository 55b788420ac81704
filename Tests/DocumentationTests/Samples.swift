import Foundation

/// The marked regions of the code that the build compiles, and the code blocks of the documents that quote it.
enum Samples {
    /// The package's folder.
    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// What a file shows: the whole of it, and each region between `// snippet.NAME` and `// snippet.end`, without markers,
    /// without what stands between `// snippet.hide` and `// snippet.show`, and without common indentation.
    static func regions(of source: String) -> [String] {
        var whole: [String] = []
        var slices: [[String]] = []
        var isInSlice = false
        var isHidden = false
        for line in source.components(separatedBy: "\n") {
            let marker = line.trimmingCharacters(in: .whitespaces)
            switch marker {
            case "// snippet.hide": isHidden = true
            case "// snippet.show": isHidden = false
            case "// snippet.end": isInSlice = false
            case _ where marker.hasPrefix("// snippet."):
                isInSlice = true
                slices.append([])
            case _ where isHidden || line.hasPrefix("//!"): continue
            default:
                whole.append(line)
                if isInSlice { slices[slices.count - 1].append(line) }
            }
        }
        return ([whole] + slices).map(trimmed)
    }

    /// The code blocks of this language in a Markdown text.
    static func blocks(of language: String, in markdown: String) -> [String] {
        var blocks: [String] = []
        var block: [String]?
        for line in markdown.components(separatedBy: "\n") {
            if let lines = block {
                if line == "```" {
                    blocks.append(trimmed(lines))
                    block = nil
                } else {
                    block = lines + [line]
                }
            } else if line == "```\(language)" {
                block = []
            }
        }
        return blocks
    }

    /// The files of these folders with this extension.
    static func files(in folders: [String], extension suffix: String) -> [URL] {
        folders.flatMap { folder in
            let files = FileManager.default.enumerator(
                at: root.appending(path: folder),
                includingPropertiesForKeys: nil
            )
            return (files?.compactMap { $0 as? URL } ?? []).filter { $0.pathExtension == suffix }
        }
    }

    private static func trimmed(_ lines: [String]) -> String {
        let isEmpty = { (line: String) in line.allSatisfy(\.isWhitespace) }
        let inner = lines.drop(while: isEmpty).reversed().drop(while: isEmpty).reversed()
        let indentation = inner.filter { !isEmpty($0) }.map { $0.prefix { $0 == " " }.count }.min() ?? 0
        return inner.map { String($0.dropFirst(indentation)) }.joined(separator: "\n")
    }
}
