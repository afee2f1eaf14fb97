# Runs one of our scripts, which comes in by standard input together with its parameters: neither they nor any secret
# among them ever stand on a command line. What it writes goes back as one line that no code page can spoil.
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
try {
    $job = [Text.Encoding]::UTF8.GetString([Convert]::FromBase64String(@($input) -join '')) | ConvertFrom-Json
    $parameters = @{}
    foreach ($one in $job.parameters.PSObject.Properties) { $parameters[$one.Name] = $one.Value }
    $reply = @{ ok = $true; value = @(& ([ScriptBlock]::Create($job.script)) @parameters) -join '' }
} catch {
    $reply = @{ ok = $false; id = $_.FullyQualifiedErrorId; message = $_.Exception.Message }
}
$json = ConvertTo-Json -Compress -InputObject $reply
[Console]::Out.WriteLine('reply:' + [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes($json)))
[Console]::Out.Flush()
# At once: `exit` would wait for jobs that were left alone because their guest does not answer.
[Environment]::Exit([int](-not $reply.ok))
