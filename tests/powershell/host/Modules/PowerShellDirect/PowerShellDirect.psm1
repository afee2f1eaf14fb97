# Invoke-Command -VMId as PowerShell Direct runs it: the block runs in a session of its own, and arguments and results
# are copies without methods, as remoting makes them. The programs of the guest are those of this computer.
#
# Set-GuestState answers | silent | refused: the guest answers, never answers, or refuses the account.
Import-Module "$PSScriptRoot\..\..\..\Jobs.psm1"
Set-StrictMode -Version 3.0
$script:State = 'answers'
function Set-GuestState([string] $Value) { $script:State = $Value }

function Copy-AsRemoting($Value) {
    $crossing = [System.Management.Automation.PSSerializer]::Serialize($Value, 3)
    [System.Management.Automation.PSSerializer]::Deserialize($crossing)
}

function Invoke-Command {
    [CmdletBinding()]
    param(
        [Parameter(Mandatory, ValueFromPipelineByPropertyName)] [Alias('VMGuid')] [guid[]] $VMId,
        [Parameter(Mandatory)] [pscredential] $Credential,
        [Parameter(Mandatory, Position = 1)] [Alias('Command')] [scriptblock] $ScriptBlock,
        [Alias('Args')] [object[]] $ArgumentList, [switch] $AsJob
    )
    $copies = [System.Collections.Generic.List[object]]::new()
    foreach ($one in $ArgumentList) { $copies.Add((Copy-AsRemoting $one)) }
    $work = switch ($script:State) {
        'silent' { { Start-Sleep -Seconds 3600 } }
        'refused' { { throw 'The credential is invalid.' } }
        default {
            {
                param([string] $Text, [object[]] $Given)
                function taskkill.exe {
                    # /PID N /T /F ends a process and its descendants. Windows PowerShell has no Kill for descendants,
                    # and runs only where Windows has the program.
                    if ($PSVersionTable.PSVersion.Major -ge 6) {
                        $id = $args[[array]::IndexOf([object[]] $args, '/PID') + 1]
                        $process = Get-Process -Id $id -ErrorAction SilentlyContinue
                        $global:LASTEXITCODE = 128
                        if ($null -eq $process) { return }
                        if ('/T' -in $args) { $process.Kill($true) } else { $process.Kill() }
                        $global:LASTEXITCODE = 0
                        "SUCCESS: The process with PID $id has been terminated."
                    } else {
                        & "$env:SystemRoot\System32\taskkill.exe" @args
                    }
                }
                $found = & ([scriptblock]::Create($Text)) @Given
                foreach ($one in @($found)) {
                    $crossing = [System.Management.Automation.PSSerializer]::Serialize($one, 3)
                    [System.Management.Automation.PSSerializer]::Deserialize($crossing)
                }
            }
        }
    }
    Start-StandInJob -ScriptBlock $work -ArgumentList "$ScriptBlock", $copies.ToArray()
}
Export-ModuleMember -Function 'Invoke-Command', 'Set-GuestState'
