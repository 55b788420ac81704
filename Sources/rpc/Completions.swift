import ArgumentParser
import Foundation

struct Completions: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Install completions for your shell.",
        discussion: """
            Writes one file to the shell's location for it, and prints what else to do, if anything:
              bash  ~/.local/share/bash-completion/completions/rpc
              zsh   ~/.zsh/completions/_rpc
              fish  ~/.config/fish/completions/rpc.fish

            Examples:
              rpc completions
              rpc completions --shell zsh
              rpc completions --print > rpc.bash
            """
    )

    enum Shell: String, ExpressibleByArgument, CaseIterable {
        case bash, zsh, fish

        var completion: CompletionShell {
            switch self {
            case .bash: .bash
            case .zsh: .zsh
            case .fish: .fish
            }
        }

        /// The path below the home folder.
        var path: String {
            switch self {
            case .bash: ".local/share/bash-completion/completions/rpc"
            case .zsh: ".zsh/completions/_rpc"
            case .fish: ".config/fish/completions/rpc.fish"
            }
        }

        var advice: String {
            switch self {
            case .bash: "It is available in the next shell, if bash-completion is installed."
            case .zsh:
                "It is available in the next shell if ~/.zshrc has: fpath=(~/.zsh/completions $fpath); autoload -U compinit; compinit"
            case .fish: "It is available immediately."
            }
        }
    }

    @Option(help: "bash, zsh or fish. Default: the shell in SHELL.")
    var shell: Shell?

    @Flag(help: "Print the completions, and write nothing.")
    var print = false

    func run() throws {
        let name = Environment.value("SHELL")?.split(separator: "/").last.map(String.init) ?? ""
        guard let shell = shell ?? Shell(rawValue: name) else {
            throw ValidationError("SHELL is none of bash, zsh and fish: name one, as in --shell bash")
        }
        let script = RPCTool.completionScript(for: shell.completion)
        if print { return Environment.writeOutput(script) }
        guard let home = Environment.value("HOME"), !home.isEmpty else {
            throw ValidationError(
                "HOME is not set: use --print, and put the completions where your shell looks for them"
            )
        }
        let file = URL(filePath: home).appending(path: shell.path)
        do {
            try FileManager.default.createDirectory(
                at: file.deletingLastPathComponent(),
                withIntermediateDirectories: true
            )
            try Data((script + "\n").utf8).write(to: file)
        } catch {
            Environment.writeError("rpc: \(file.path) cannot be written: \(error.localizedDescription)")
            throw ExitCode.failure
        }
        Environment.writeOutput("wrote \(file.path)")
        Environment.writeOutput(shell.advice)
    }
}
